"""Natural parameters, information, overlap, combination, and tests of mean directions; coverage by simulation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import direction, double
from laws import seeded_and_validated as seeded_and_validated
from torch.nn.functional import normalize

from vmf_ops.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
    combine,
    log_expected_likelihood,
    rayleigh_test,
    watson_williams_test,
)
from vmf_ops.vmf import vmf_log_normalizer

pytestmark = pytest.mark.usefixtures("device")


def binomial_spread(share, trials):
    return math.sqrt(share * (1 - share) / trials)


def tangent_at(loc):
    """A unit vector at right angles to loc."""
    other = direction(len(loc))
    return normalize(other - (other @ loc) * loc, dim=-1)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.floats(-3, 6), st.integers(0, 2**31))
def test_natural_parameters_go_there_and_back(m, log_kappa, seed):
    torch.manual_seed(seed)
    law = VonMisesFisher(direction(m, 3), torch.full((3,), 10**log_kappa, dtype=double))
    back = VonMisesFisher.from_natural(law.natural)
    torch.testing.assert_close(back.loc, law.loc)
    torch.testing.assert_close(back.concentration, law.concentration)


def test_the_natural_parameter_zero_is_the_uniform_law():
    eta = torch.zeros(2, 4, dtype=double, requires_grad=True)
    law = VonMisesFisher.from_natural(eta)
    z = direction(4, 2)
    torch.testing.assert_close(law.log_prob(z), HypersphericalUniform(4, dtype=double).log_prob(z))
    with pytest.raises(ValueError, match="eta"):
        VonMisesFisher.from_natural(torch.ones(3, 1))
    tiny = torch.tensor([[1e-200, 0.0, 0.0]], dtype=double)
    assert VonMisesFisher.from_natural(tiny).concentration.item() == pytest.approx(1e-200)


@pytest.mark.parametrize("m, kappa", [(2, 1.5), (3, 8.0), (20, 30.0)])
def test_fisher_information_is_the_second_derivative(m, kappa):
    loc, k = direction(m), torch.tensor(kappa, dtype=double)
    law = VonMisesFisher(loc, k)
    tangent = tangent_at(loc)

    def expected(angle, k):
        turned = VonMisesFisher(angle.cos() * loc + angle.sin() * tangent, k, validate_args=False)
        # E log p is linear in z: at the mean, in terms of the natural parameter.
        return law.mean @ turned.natural + vmf_log_normalizer(m, k)

    hessian = torch.func.hessian(lambda x: expected(x[0], x[1]))(torch.stack([torch.zeros((), dtype=double), k]))
    information = law.fisher_information()
    torch.testing.assert_close(-hessian, torch.diag(torch.stack(list(information))), rtol=1e-9, atol=1e-9)
    # Of the natural parameter, the covariance.
    eta_hessian = torch.func.hessian(lambda eta: -vmf_log_normalizer(m, eta.norm()))(law.natural)
    torch.testing.assert_close(eta_hessian, law.covariance_matrix, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("m, kappa", [(2, 4.0), (3, 10.0), (16, 40.0)])
def test_standard_errors_cover(m, kappa):
    """95 of 100 intervals hold the concentration, 95 of 100 cones the mean direction."""
    trials, n = 1500, 300
    truth = VonMisesFisher(direction(m), kappa)
    fit = VonMisesFisher.fit(truth.sample((trials, n)))
    errors = fit.standard_errors(n)
    inside = ((fit.concentration - kappa).abs() < 1.96 * errors.concentration).double().mean()
    # (θ/error)² is χ² of m-1 degrees of freedom, whose tail is gammaincc.
    angle = 2 * torch.asin(0.5 * (fit.loc - truth.loc).norm(dim=-1))
    tail = torch.special.gammaincc(torch.tensor((m - 1) / 2, dtype=double), 0.5 * (angle / errors.direction).square())
    for coverage in (inside, (tail > 0.05).double().mean()):
        assert abs(coverage - 0.95) < 4 * binomial_spread(0.95, trials) + 0.01  # and what n = 300 leaves of the limit


# ---- Overlap ----


@pytest.mark.parametrize("m", [2, 3, 10])
@pytest.mark.parametrize("kappas", [(0.0, 0.0), (0.0, 5.0), (1e-3, 2e-3), (3.0, 40.0), (20.0, 20.0)])
def test_expected_likelihood_is_the_integral(m, kappas):
    p, q = (VonMisesFisher(direction(m), k) for k in kappas)
    uniform = HypersphericalUniform(m, dtype=double)
    z = p.sample((100_000,))
    values = q.log_prob(z).exp()
    got = log_expected_likelihood(p, q)
    assert abs(values.mean() - got.exp()) < 5 * values.std() / math.sqrt(100_000) + 1e-12
    torch.testing.assert_close(got, log_expected_likelihood(q, p))
    torch.testing.assert_close(
        log_expected_likelihood(p, VonMisesFisher(direction(m), 0.0)), uniform.log_prob(direction(m))
    )


def test_expected_likelihood_of_tight_and_infinite_laws():
    """Of two planar normals of variance 1/κ: log of κ/(4π) exp(-κ d²/4)."""
    kappa, mu = 1e10, direction(3)
    other = normalize(mu + 1e-5 * direction(3), dim=-1)
    got = log_expected_likelihood(*(VonMisesFisher(x, kappa, normalize=False) for x in (mu, other)))
    expected = math.log(kappa / (4 * math.pi)) - kappa * (mu - other).square().sum() / 4
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)
    point, law = VonMisesFisher(mu, math.inf), VonMisesFisher(other, 3.0)
    torch.testing.assert_close(log_expected_likelihood(point, law), law.log_prob(mu))
    assert log_expected_likelihood(point, point) == math.inf
    assert log_expected_likelihood(point, VonMisesFisher(other, math.inf)) == -math.inf
    opposite = VonMisesFisher(-mu, 3.0), VonMisesFisher(mu, 3.0)
    exact = 2 * vmf_log_normalizer(3, law.concentration) + math.log(4 * math.pi)
    torch.testing.assert_close(log_expected_likelihood(*opposite), exact)


def test_expected_likelihood_of_all_pairs():
    p = VonMisesFisher(direction(50, 60), torch.rand(60, dtype=double) * 90)
    q = VonMisesFisher(direction(50, 40), torch.rand(40, dtype=double) * 90)
    every = log_expected_likelihood(p, q, pairwise=True)
    assert every.shape == (60, 40)
    row = VonMisesFisher(p.loc[7], p.concentration[7])
    torch.testing.assert_close(every[7], log_expected_likelihood(row, q), rtol=1e-12, atol=1e-12)
    loc, kappa = direction(4).requires_grad_(), torch.tensor(3.0, dtype=double, requires_grad=True)
    other = VonMisesFisher(direction(4), 2.0)
    assert torch.autograd.gradcheck(lambda x, k: log_expected_likelihood(VonMisesFisher(x, k), other), (loc, kappa))
    with pytest.raises(ValueError, match="different spheres"):
        log_expected_likelihood(p, other)


def test_a_combination_has_the_product_of_densities():
    p, q = VonMisesFisher(direction(5, 3), torch.rand(3, dtype=double) * 9), VonMisesFisher(direction(5), 4.0)
    both = combine(p, q)
    z = direction(5, 6, 3)
    difference = p.log_prob(z) + q.log_prob(z) - both.log_prob(z)
    torch.testing.assert_close(difference, log_expected_likelihood(p, q).expand(6, 3))
    assert combine(q, VonMisesFisher(-q.loc, 4.0)).concentration < 1e-14


# ---- Tests of mean directions ----


@pytest.mark.parametrize("m", [2, 3, 20])
def test_rayleigh_holds_its_level_and_sees_a_direction(m):
    trials, n = 4000, 20
    uniform = HypersphericalUniform(m, dtype=double).sample((trials, n))
    p_value = rayleigh_test(uniform).p_value
    for level in (0.01, 0.05, 0.5):
        assert abs((p_value < level).double().mean() - level) < 4 * binomial_spread(level, trials) + 0.002
    directed = VonMisesFisher(direction(m), 1.5 * math.sqrt(m)).sample((200, n))
    assert (rayleigh_test(directed).p_value < 0.05).double().mean() > 0.9
    weighted = rayleigh_test(uniform[0], torch.full((n,), 3.0)), rayleigh_test(uniform[0].repeat(3, 1))
    torch.testing.assert_close(weighted[0].statistic, weighted[1].statistic)


@pytest.mark.parametrize("m, kappa", [(2, 10.0), (3, 20.0), (10, 100.0)])
def test_watson_williams_holds_its_level_and_sees_a_difference(m, kappa):
    law, trials = VonMisesFisher(direction(m), kappa), 1000
    p_value = torch.stack([watson_williams_test(law.sample((36,)).split([8, 12, 16])).p_value for _ in range(trials)])
    for level in (0.05, 0.5):
        assert abs((p_value < level).double().mean() - level) < 4 * binomial_spread(level, trials) + 0.01
    turned = VonMisesFisher(law.loc + 0.5 * tangent_at(law.loc), kappa)
    seen = [watson_williams_test([law.sample((15,)), turned.sample((15,))]).p_value < 0.05 for _ in range(50)]
    assert sum(seen) > 35
    for bad in ([law.sample((5,))], [law.sample((5,)), direction(m + 1, 5)], [law.sample((1,)), law.sample((1,))]):
        with pytest.raises(ValueError):
            watson_williams_test(bad)


@pytest.mark.parametrize("m, kappa", [(2, 0.0), (2, 3.0), (3, 10.0), (64, 50.0), (64, 5000.0)])
def test_cones_hold_their_level(m, kappa):
    law, n = VonMisesFisher(direction(m), kappa), 20_000
    z = law.sample((n,))
    angle = 2 * torch.asin(0.5 * (z - law.loc).norm(dim=-1))
    for level in (0.05, 0.5, 0.95, 0.999):
        cone = law.confidence_cone(level)
        assert abs((angle <= cone).double().mean() - level) < 5 * binomial_spread(level, n)
        torch.testing.assert_close(
            law.cosine_cdf(cone.cos()), torch.tensor(1 - level, dtype=double), rtol=1e-6, atol=1e-9
        )
    assert law.confidence_cone(0.0) < 1e-7 and law.confidence_cone(1.0).item() == pytest.approx(math.pi)
    assert law.confidence_cone([0.5, 1.5]).isnan().tolist() == [False, True]


def test_cones_of_a_batch_and_of_the_sphere():
    """On S_2, 1 - w = -log1p(-level (1 - e^-2κ))/κ."""
    kappa = torch.tensor([0.5, 3.0, 1e4])
    cone = VonMisesFisher(direction(3, 3, dtype=torch.float32), kappa).confidence_cone(0.9)
    exact = torch.acos(1 + torch.log1p(-0.9 * -torch.expm1(-2 * kappa.double())) / kappa.double())
    assert cone.dtype == torch.float32
    torch.testing.assert_close(cone, exact.float(), rtol=1e-6, atol=0)
