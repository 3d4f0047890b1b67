"""vmf_ops.distributions as citizens of torch.distributions: densities, draws, divergences, fits, losses."""

import copy
import doctest
import math
import pickle

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    constraints,
    kl_divergence,
    transform_to,
)
from torch.nn.functional import normalize

import vmf_ops
from vmf_ops.distributions import (
    HypersphericalUniform,
    ProductHypersphericalUniform,
    ProductVonMisesFisher,
    VonMisesFisher,
    product_of_unit_vectors,
    unit_vector,
    vmf_nll_embedding_loss,
    vmf_nll_loss,
)
from vmf_ops.vmf import log_sphere_area, vmf_kl_uniform, vmf_mean_length

pytestmark = pytest.mark.usefixtures("device")

double = torch.float64
DIMS = (5, 3, 2)


@pytest.fixture(autouse=True)
def seeded_and_validated():
    torch.manual_seed(7)
    Distribution.set_default_validate_args(True)  # torch.compile turns it off for the process


def direction(m, *batch, dtype=double):
    return normalize(torch.randn(*batch, m, dtype=double), dim=-1).to(dtype)


def product(*batch, dtype=double, kappa=None):
    loc = torch.cat([direction(m, *batch, dtype=dtype) for m in DIMS], -1)
    kappa = torch.rand(*batch, len(DIMS), dtype=dtype) * 20 if kappa is None else kappa
    return ProductVonMisesFisher(loc, kappa, DIMS)


def laws():
    return {
        "vmf": VonMisesFisher(direction(4, 6), torch.rand(6, dtype=double) * 20),
        "product": product(6),
        "uniform": HypersphericalUniform(4, (6,), dtype=double),
        "product_uniform": ProductHypersphericalUniform(DIMS, (6,), dtype=double),
    }


EVERY_LAW = pytest.mark.parametrize("name", ["vmf", "product", "uniform", "product_uniform"])


# ---- Densities ----


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.floats(-3, 3), st.integers(0, 2**31))
def test_log_prob_is_scipys(m, log_kappa, seed):
    torch.manual_seed(seed)
    mu, z, kappa = direction(m), direction(m, 5), 10**log_kappa
    ours = VonMisesFisher(mu, kappa).log_prob(z)
    theirs = scipy.stats.vonmises_fisher(mu.numpy(force=True), kappa).logpdf(z.numpy(force=True))
    # scipy adds kappa to its log normaliser and takes it off again.
    np.testing.assert_allclose(ours.numpy(force=True), theirs, rtol=1e-13, atol=1e-13 * (10 + kappa))
    assert VonMisesFisher(mu, kappa).entropy().item() == pytest.approx(
        scipy.stats.vonmises_fisher(mu.numpy(force=True), kappa).entropy(), rel=1e-11, abs=1e-12 * (10 + kappa)
    )


@pytest.mark.parametrize("m", [2, 3, 64])
def test_log_prob_keeps_its_digits_for_any_concentration(m):
    """In single precision at kappa = 1e8, near the mode, against mpmath on the same single-precision vectors."""
    kappa = 1e8
    mu = direction(m, dtype=torch.float32)
    z = normalize(mu + 2e-4 * torch.randn(20, m), dim=-1)
    got = VonMisesFisher(mu, kappa, normalize=False).log_prob(z)
    with mpmath.workdps(40):
        v = mpmath.mpf(m) / 2 - 1
        peak = v * mpmath.log(kappa) - (v + 1) * mpmath.log(2 * mpmath.pi)
        # log(e^-kappa I_v(kappa)), DLMF 10.40.1: two terms leave 1e-16 here.
        scaled = 1 - (4 * v * v - 1) / (8 * mpmath.mpf(kappa))
        peak = float(peak + mpmath.log(2 * mpmath.pi * kappa) / 2 - mpmath.log(scaled))
    distance = 0.5 * kappa * (z.double() - mu.double()).square().sum(-1)
    scale = peak + distance  # each a few roundings; a rounding of kappa would be an error of 8
    assert ((got.double() - (peak - distance)).abs() <= 4 * torch.finfo(torch.float32).eps * scale).all()


@pytest.mark.parametrize("kappa", [0.0, 0.7, 30.0])
def test_density_of_the_circle_and_the_sphere_integrates_to_one(kappa):
    angle = torch.arange(4000, dtype=double) * (2 * math.pi / 4000)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    law = VonMisesFisher(direction(2), kappa)
    assert law.log_prob(circle).exp().mean().item() * 2 * math.pi == pytest.approx(1, rel=1e-12)  # trapezoids, periodic
    # On S_2 about e3 the height is uniform: Gauss-Legendre in it.
    nodes, weights = map(torch.tensor, np.polynomial.legendre.leggauss(80))
    z = torch.stack([(1 - nodes**2).sqrt(), torch.zeros_like(nodes), nodes], -1)
    law = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0], dtype=double), kappa)
    assert (law.log_prob(z).exp() * weights).sum().item() * 2 * math.pi == pytest.approx(1, rel=1e-12)


def test_product_is_the_sum_of_its_shells():
    law = product(6)
    z = law.sample((4,))
    parts = z.split(DIMS, -1)
    total = sum(shell.log_prob(part) for shell, part in zip(law.shells, parts, strict=True))
    close = torch.testing.assert_close
    close(law.log_prob(z), total)
    close(law.entropy(), sum(shell.entropy() for shell in law.shells))
    close(law.mean, torch.cat([shell.mean for shell in law.shells], -1))
    uniform = ProductHypersphericalUniform(DIMS, dtype=double)
    close(uniform.log_prob(z), sum(s.log_prob(p) for s, p in zip(uniform.shells, parts, strict=True)))
    close(uniform.entropy(), sum(s.entropy() for s in uniform.shells))
    close(uniform.variance, torch.cat([s.variance for s in uniform.shells], -1))
    assert (law.log_prob(law.mode) >= law.log_prob(z)).all()


# ---- Draws ----


@EVERY_LAW
def test_draws_agree_with_the_moments_and_the_density(name, device):
    law, n = laws()[name].to(device), 20_000
    z = law.sample((n,))
    assert z.shape == (n, *law.batch_shape, *law.event_shape)
    assert law.support.check(z).all()
    error = (z.mean(0) - law.mean) / (law.variance / n).sqrt()
    assert error.abs().max() < 5  # of at most 60 standard normal numbers
    spread = (z - law.mean).square()
    error = (spread.mean(0) - law.variance) / (spread.std(0) / math.sqrt(n))
    assert error.abs().max() < 5
    surprise = -law.log_prob(z)
    tolerance = 5 * surprise.std(0) / math.sqrt(n) + 1e-12
    assert ((surprise.mean(0) - law.entropy()).abs() < tolerance).all()


@pytest.mark.parametrize("m, kappa", [(2, 0.5), (3, 2.0), (11, 5.0), (50, 20.0)])
def test_importance_weights_have_mean_one(m, kappa):
    """E_p[q(z)/p(z)] = 1 ties the draws to the density, and the densities of two laws to each other."""
    mu = direction(m)
    p, q = VonMisesFisher(mu, kappa), VonMisesFisher(mu + 0.2 * direction(m), 0.8 * kappa)
    z = p.sample((40_000,))
    weights = (q.log_prob(z) - p.log_prob(z)).exp()
    assert abs(weights.mean() - 1) < 5 * weights.std() / 200


def test_covariance_matrix():
    for m, kappa in ((2, 1.0), (3, 10.0), (6, 4.0)):
        law, n = VonMisesFisher(direction(m), kappa), 40_000
        z = law.sample((n,)) - law.mean
        products = z.unsqueeze(-1) * z.unsqueeze(-2)
        error = (products.mean(0) - law.covariance_matrix) / (products.std(0) / math.sqrt(n))
        assert error.abs().max() < 5
        torch.testing.assert_close(law.covariance_matrix.diagonal(dim1=-2, dim2=-1), law.variance)
    kappa = torch.tensor([0.0, 1e-6, 1e-3], dtype=double)
    small = VonMisesFisher(direction(7), kappa).variance
    torch.testing.assert_close(small, torch.full_like(small, 1 / 7), rtol=1e-6, atol=0)
    uniform = HypersphericalUniform(7, dtype=double)
    torch.testing.assert_close(uniform.covariance_matrix, torch.eye(7, dtype=double) / 7)


def test_variance_keeps_its_digits_along_the_mean_direction():
    law = VonMisesFisher(torch.eye(5)[0], torch.tensor([1.0, 1e4, 1e8]))
    torch.testing.assert_close(law.variance, law.covariance_matrix.diagonal(dim1=-2, dim2=-1), rtol=0, atol=0)
    assert (law.variance > 0).all()


def test_what_a_property_gives_is_the_callers():
    law = ProductHypersphericalUniform((3, 2))
    law.variance.mul_(10)
    torch.testing.assert_close(law.variance, torch.tensor([1 / 3] * 3 + [1 / 2] * 2))


def test_integers_are_points_too():
    pole = torch.tensor([1, 0, 0])
    for checked in (True, False):
        uniform = HypersphericalUniform(3, validate_args=checked)
        assert uniform.log_prob(pole).item() == pytest.approx(-math.log(4 * math.pi))
        law = VonMisesFisher(torch.eye(3)[0], 2.0, validate_args=checked)
        assert law.log_prob(pole) == law.log_prob(pole.float())


def test_a_fake_mode_after_a_real_call():
    from torch._subclasses.fake_tensor import FakeTensorMode

    product(4).entropy(), product(4).mean
    with FakeTensorMode():
        law = ProductVonMisesFisher(torch.empty(4, 5), torch.empty(4, 2), (3, 2), validate_args=False)
        assert law.entropy().shape == (4,) and law.mean.shape == (4, 5)


def test_uniform_laws_have_no_mode_and_name_their_dimension():
    for law in (HypersphericalUniform(3, (2,)), ProductHypersphericalUniform((3, 2), (2,))):
        assert law.mode.isnan().all() and law.mode.shape == law.mean.shape
        assert "3" in repr(law) and "(2,)" in repr(law)
        with pytest.raises((ValueError, RuntimeError)):
            law.expand((4, 3))


def test_rsample_is_differentiable_and_sample_is_not():
    loc, kappa = direction(5, 3).requires_grad_(), torch.full((3,), 4.0, dtype=double, requires_grad=True)
    law = VonMisesFisher(loc, kappa)
    assert not law.sample((2,)).requires_grad
    n = 20_000
    for gradient, share in (("implicit", 1.0), ("rsvi", None)):
        w = (law.rsample((n,), gradient=gradient) * law.loc.detach()).sum(-1)
        slope = torch.autograd.grad(w.mean(0).sum(), kappa, retain_graph=True)[0]
        truth = torch.func.vmap(torch.func.grad(lambda k: vmf_mean_length(5, k)))(kappa.detach())
        # dw/dkappa has a standard deviation below 0.1 here.
        assert share is None or ((slope - truth).abs() < 5 * 0.1 / math.sqrt(n)).all()
    grads = torch.autograd.grad(law.rsample().sum(), (loc, kappa))
    assert all(g.isfinite().all() for g in grads)


@EVERY_LAW
def test_generator_makes_draws_repeat(name):
    law = laws()[name]
    draws = [law.sample((3,), generator=seeded(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# ---- Shapes and the protocol of torch.distributions ----


@EVERY_LAW
def test_expand_copy_pickle_and_cast(name):
    law = laws()[name]
    z = law.sample()
    wide = law.expand((2, 6))
    assert wide.batch_shape == (2, 6) and wide.event_shape == law.event_shape
    assert wide.sample((4,)).shape == (4, 2, 6, *law.event_shape)
    torch.testing.assert_close(wide.log_prob(z), law.log_prob(z).expand(2, 6))
    for other in (copy.deepcopy(law), pickle.loads(pickle.dumps(law)), law.expand((6,))):
        assert type(other) is type(law)
        assert torch.equal(other.log_prob(z), law.log_prob(z))
    single = law.to(torch.float32)
    assert single.sample().dtype == single.mean.dtype == single.entropy().dtype == torch.float32
    assert law.to("meta").mean.device.type == "meta"
    whole = Independent(law, 1)
    assert whole.batch_shape == () and whole.event_shape == (6, *law.event_shape)
    torch.testing.assert_close(whole.log_prob(z), law.log_prob(z).sum())
    assert type(law).__name__ in repr(law)
    assert law.has_rsample and law.stddev.shape == law.mean.shape == (6, *law.event_shape)


def test_parameters_broadcast():
    law = VonMisesFisher(direction(4, 3, 1), torch.rand(5, dtype=double))
    assert law.batch_shape == (3, 5) and law.rsample().shape == (3, 5, 4) and law.log_prob(law.mode).shape == (3, 5)
    law = ProductVonMisesFisher(direction(10), torch.rand(4, 3, dtype=double), DIMS)
    assert law.batch_shape == (4,) and law.rsample((2,)).shape == (2, 4, 10)
    assert VonMisesFisher(direction(3), 5).concentration.dtype == double


def test_loc_is_normalised():
    loc = torch.randn(6, 10, dtype=double)
    law = ProductVonMisesFisher(loc, torch.ones(6, 3, dtype=double), DIMS)
    assert product_of_unit_vectors(DIMS).check(law.loc).all()
    one = VonMisesFisher(loc, 1.0)
    torch.testing.assert_close(one.loc, normalize(loc, dim=-1))
    with pytest.raises(ValueError, match="loc"):
        VonMisesFisher(loc, 1.0, normalize=False)
    torch.testing.assert_close(transform_to(unit_vector)(loc), one.loc)
    torch.testing.assert_close(transform_to(product_of_unit_vectors(DIMS))(loc), law.loc)


def test_loc_of_any_length_is_normalised():
    for size in (1e-30, 1.0, 1e30):
        law = VonMisesFisher(size * torch.ones(2, 4), 3.0)
        torch.testing.assert_close(law.loc, torch.full((2, 4), 0.5))


def test_numpy_s_numbers_are_numbers():
    law = ProductVonMisesFisher(torch.eye(5)[:1], torch.ones(1, 2), (np.int64(3), np.int64(2)), validate_args=False)
    assert law.dims == (3, 2) and HypersphericalUniform(np.int64(4)).event_shape == (4,)
    assert VonMisesFisher(torch.eye(3), np.float32(2)).concentration.dtype == torch.float32


def test_invalid_arguments_raise():
    with pytest.raises(TypeError, match="concentration"):
        VonMisesFisher(torch.eye(3), 1j)
    mu = direction(3)
    for kappa in (-1.0, math.nan):
        with pytest.raises(ValueError, match="concentration"):
            VonMisesFisher(mu, kappa)
    with pytest.raises(ValueError, match="loc"):
        VonMisesFisher(torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match="m >= 2"):
        VonMisesFisher(torch.ones(1), 1.0)
    with pytest.raises(ValueError, match="broadcast"):
        VonMisesFisher(direction(3, 4), torch.ones(5, dtype=double))
    with pytest.raises(TypeError, match="dtype"):
        VonMisesFisher(mu, torch.ones((), dtype=torch.float32))
    with pytest.raises(TypeError, match="floating"):
        VonMisesFisher(torch.tensor([1, 0]), 1.0)
    with pytest.raises(TypeError, match="concentration"):
        VonMisesFisher(mu, [1.0])
    with pytest.raises(ValueError, match="10"):
        ProductVonMisesFisher(direction(9), torch.ones(3, dtype=double), DIMS)
    with pytest.raises(ValueError, match="3"):
        ProductVonMisesFisher(direction(10), torch.ones(2, dtype=double), DIMS)
    for dims in ((5, 1), (), (2.5, 3)):
        with pytest.raises(ValueError, match="dims"):
            ProductHypersphericalUniform(dims)
    with pytest.raises(TypeError, match="sequence"):
        ProductHypersphericalUniform(4)
    with pytest.raises(ValueError, match="support"):
        VonMisesFisher(mu, 1.0).log_prob(2 * mu)
    with pytest.raises(ValueError, match="support"):
        HypersphericalUniform(3).log_prob(torch.ones(3))
    law = VonMisesFisher(mu, -1.0, validate_args=False)
    assert law.log_prob(mu).isnan() and law.entropy().isnan() and law.sample().isnan().all()


def test_constraints():
    assert unit_vector == copy.deepcopy(unit_vector) and unit_vector.event_dim == 1
    assert product_of_unit_vectors((2, 3)) == product_of_unit_vectors([2, 3]) != product_of_unit_vectors((3, 2))
    assert not unit_vector.check(torch.tensor([math.nan, 1.0]))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, double):
        assert unit_vector.check(direction(50, 20, dtype=dtype)).all()
    assert not product_of_unit_vectors((2, 2)).check(torch.ones(3))
    assert isinstance(product(2).arg_constraints["concentration"], constraints.independent)


# ---- Divergences ----


def exact_kl(m, p, q, half_distance):
    with mpmath.workdps(80):
        v, p, q = mpmath.mpf(m) / 2 - 1, mpmath.mpf(p), mpmath.mpf(q)
        log_f = lambda x: mpmath.log(mpmath.besseli(v, x)) - v * mpmath.log(x)  # noqa: E731  (and a constant)
        length = mpmath.besseli(v + 1, p) / mpmath.besseli(v, p)
        return float(log_f(q) - log_f(p) - length * (q - p) + q * length * mpmath.mpf(half_distance))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.floats(-3, 3), st.one_of(st.floats(-6, 6), st.floats(-0.7, 0.7), st.floats(-1e-6, 1e-6)))
def test_kl_between_two_laws(m, log_p, log_ratio):
    """Relative accuracy, also for laws that nearly agree; and so it is never negative."""
    p, q = 10**log_p, 10**log_p * math.exp(log_ratio)
    mu = direction(m)
    for other in (mu, direction(m)):
        half = 0.5 * (mu - other).square().sum().item()
        first, second = (VonMisesFisher(loc, k, normalize=False) for loc, k in ((mu, p), (other, q)))
        kl, exact = kl_divergence(first, second), exact_kl(m, p, q, half)
        # Twice the 20 eps found where terms of 20 times the result are added.
        assert abs(kl - exact) <= 40 * torch.finfo(double).eps * exact + 1e-300
        assert kl >= 0
    assert kl_divergence(first, copy.deepcopy(first)) == 0


def test_kl_between_two_laws_in_single_precision():
    quotients = torch.tensor([0.1, 0.3, 0.5, 0.76, 0.9, 1.1, 1.3, 2.1, 3.9, 4.1, 9.0])
    p, q = (torch.logspace(-2, 5, 50).outer(r) for r in (torch.ones(11), quotients))
    for m in (2, 3, 41, 1000):
        mu = direction(m, dtype=torch.float32)
        laws = [[VonMisesFisher(mu.to(d), k.to(d), normalize=False) for k in (p, q)] for d in (torch.float32, double)]
        single, exact = (kl_divergence(*pair) for pair in laws)
        assert ((single - exact).abs() <= 40 * torch.finfo(torch.float32).eps * exact).all()


def test_kl_of_extreme_laws():
    """Neither overflow in single precision nor in half, whose squares do; certain laws have no divergence but inf."""
    mu = direction(3, dtype=torch.float32)

    def kl(p, q, dtype=torch.float32):
        laws = (VonMisesFisher(mu.to(dtype), k, normalize=False, validate_args=False) for k in (p, q))
        return kl_divergence(*laws).item()

    # For large concentrations of the sphere, KL = log(p/q) + q/p - 1.
    for p, q in ((1e20, 3e20), (1e30, 1.2e30)):
        assert kl(p, q) == pytest.approx(math.log(p / q) + q / p - 1, rel=1e-5)
    assert kl(2000, 2400, torch.float16) == pytest.approx(math.log(1 / 1.2) + 0.2, rel=2e-3)
    assert kl(math.inf, 1) == kl(1, math.inf) == math.inf
    p, q = torch.tensor(1.0, requires_grad=True), torch.tensor(1e30, requires_grad=True)
    kl_divergence(VonMisesFisher(mu, p, normalize=False), VonMisesFisher(mu, q, normalize=False)).backward()
    assert p.grad.isfinite() and q.grad.item() == pytest.approx(0.68696, rel=1e-4)  # 1 - A(1)


@pytest.mark.parametrize("m", [2, 3, 512, 5000])
def test_kl_of_the_uniform_law_keeps_its_digits(m):
    """κ²/(2m) for small κ, also for products."""
    for dtype in (torch.float32, double):
        kappa, mu = torch.tensor([1e-6, 1e-3], dtype=dtype), direction(m, 2, dtype=dtype)
        exact = kappa.square() / (2 * m)
        kl = kl_divergence(HypersphericalUniform(m, dtype=dtype), VonMisesFisher(mu, kappa, normalize=False))
        torch.testing.assert_close(kl, exact, rtol=1e-6, atol=0)
        pair = ProductVonMisesFisher(torch.cat([mu, mu], -1), torch.stack([kappa, kappa], -1), (m, m), normalize=False)
        kl = kl_divergence(ProductHypersphericalUniform((m, m), dtype=dtype), pair)
        torch.testing.assert_close(kl, 2 * exact, rtol=1e-6, atol=0)


def test_kl_to_and_from_the_uniform_law():
    p = VonMisesFisher(direction(4, 6), torch.rand(6, dtype=double) * 20)
    uniform, nearly = HypersphericalUniform(4, dtype=double), VonMisesFisher(p.loc, 0.0)
    close = torch.testing.assert_close
    close(kl_divergence(p, uniform), vmf_kl_uniform(4, p.concentration))
    close(kl_divergence(p, uniform), kl_divergence(p, nearly))
    close(kl_divergence(p, uniform) + p.entropy(), uniform.entropy().expand(6))
    close(kl_divergence(uniform, p), kl_divergence(nearly, p))
    assert kl_divergence(uniform, uniform) == 0
    z = uniform.sample((40_000,))
    gap = uniform.log_prob(z)[:, None] - p.log_prob(z[:, None])
    assert ((gap.mean(0) - kl_divergence(uniform, p)).abs() < 5 * gap.std(0) / 200).all()


def test_kl_of_products_is_the_sum_over_shells():
    p, q = product(6), product(6)
    uniform = ProductHypersphericalUniform(DIMS, dtype=double)
    close = torch.testing.assert_close
    for other in (q, uniform):
        each = torch.stack([kl_divergence(a, b) for a, b in zip(p.shells, other.shells, strict=True)], -1)
        close(p.kl_per_shell(other), each)
        close(kl_divergence(p, other), each.sum(-1))
    close(p.kl_per_shell(), p.kl_per_shell(uniform))
    each = [kl_divergence(a, b) for a, b in zip(uniform.shells, p.shells, strict=True)]
    close(kl_divergence(uniform, p), sum(each))
    assert kl_divergence(uniform, uniform) == 0
    assert kl_divergence(p, uniform.expand((2, 6))).shape == p.kl_per_shell(uniform.expand((2, 6))).shape[:-1] == (2, 6)
    whole = kl_divergence(Independent(p, 1), Independent(uniform.expand((6,)), 1))
    close(whole, kl_divergence(p, uniform).sum())


def test_kl_gradients():
    loc, kappa = direction(5).requires_grad_(), torch.tensor(3.0, dtype=double, requires_grad=True)
    other, base = torch.tensor(7.0, dtype=double, requires_grad=True), direction(5)
    assert torch.autograd.gradcheck(
        lambda m, k, o: kl_divergence(VonMisesFisher(m, k), VonMisesFisher(base, o)), (loc, kappa, other)
    )
    same = kl_divergence(VonMisesFisher(base, kappa), VonMisesFisher(base, kappa.detach()))
    assert torch.autograd.grad(same, kappa)[0].abs() < 1e-15


def test_different_spheres_have_no_divergence():
    with pytest.raises(ValueError, match="different spheres"):
        kl_divergence(VonMisesFisher(direction(3), 1.0), HypersphericalUniform(4))
    with pytest.raises(ValueError, match="different spheres"):
        kl_divergence(product(2), ProductHypersphericalUniform((3, 5, 2)))
    with pytest.raises(NotImplementedError, match="per shell"):
        product(2).kl_per_shell(HypersphericalUniform(10))


# ---- Transforms ----


def objective(loc, kappa):
    law = ProductVonMisesFisher(loc, kappa, DIMS)
    prior = ProductHypersphericalUniform(DIMS)
    z = law.rsample((2,))
    return (law.log_prob(z) - prior.log_prob(z)).sum() + kl_divergence(law, prior).sum() + law.entropy().sum()


def test_compile():
    torch._dynamo.reset()
    law = product(6, dtype=torch.float32)
    inputs = law.loc.clone().requires_grad_(), law.concentration.clone().requires_grad_()
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, objective):
        torch.manual_seed(3)
        value = function(*inputs)
        results.append((value, *torch.autograd.grad(value, inputs)))
    torch.testing.assert_close(results[0], results[1])


def test_vmap():
    law = product(6)
    close = torch.testing.assert_close
    z = law.sample()

    def parts(loc, kappa, z):
        p = ProductVonMisesFisher(loc, kappa, DIMS)
        return p.log_prob(z), p.entropy(), p.kl_per_shell(), p.variance

    got = torch.func.vmap(parts)(law.loc, law.concentration, z)
    close(got, (law.log_prob(z), law.entropy(), law.kl_per_shell(), law.variance))
    draw = torch.func.vmap(lambda loc: VonMisesFisher(loc, 5.0).sample((3,)), randomness="different")
    draws = draw(direction(4).expand(6, 4))
    assert draws.shape == (6, 3, 4) and not torch.equal(draws[0], draws[1])


# ---- Fits ----


@pytest.mark.parametrize("m, kappa", [(2, 3.0), (3, 50.0), (10, 8.0), (60, 40.0)])
def test_fit_is_scipys_maximum_likelihood(m, kappa):
    mu = direction(m)
    z = VonMisesFisher(mu, kappa).sample((2000,))
    law = VonMisesFisher.fit(z)
    their_mu, their_kappa = scipy.stats.vonmises_fisher.fit(z.numpy(force=True))
    np.testing.assert_allclose(law.loc.numpy(force=True), their_mu, rtol=1e-12, atol=1e-12)
    assert law.concentration.item() == pytest.approx(their_kappa, rel=1e-6)  # scipy's root to its own tolerance
    # The likelihood is stationary there.
    k = law.concentration.clone().requires_grad_()
    slope = torch.autograd.grad(VonMisesFisher(law.loc, k).log_prob(z).mean(), k)[0]
    assert abs(slope) < 1e-12
    assert law.concentration.item() == pytest.approx(kappa, rel=0.2) and (law.loc @ mu) > 0.98


@pytest.mark.parametrize("m, kappa", [(4096, 3000.0), (512, 1e6), (3, 1e8)])
def test_fit_in_single_precision(m, kappa):
    """Data of large m or kappa, rounded to single precision, give the concentration of the unrounded data."""
    z = VonMisesFisher(direction(m), kappa).sample((500,))
    exact, single = VonMisesFisher.fit(z), VonMisesFisher.fit(z.float())
    assert single.concentration.dtype == single.loc.dtype == torch.float32
    # A rounding of z of 6e-8 in each coordinate against a spread of 1/sqrt(kappa).
    assert single.concentration.item() == pytest.approx(exact.concentration.item(), rel=1e-5 + (6e-8) ** 2 * kappa)
    mean_length = 1 - 0.5 * (z - exact.loc).square().sum(-1).mean()
    with mpmath.workdps(60):
        x, v = mpmath.mpf(exact.concentration.item()), mpmath.mpf(m) / 2 - 1
        terms = 100_000
        ratio = float(mpmath.besseli(v + 1, x, maxterms=terms) / mpmath.besseli(v, x, maxterms=terms))
    assert ratio == pytest.approx(mean_length.item(), rel=1e-13)


def test_weights_count_points():
    z = VonMisesFisher(direction(4), 5.0).sample((6, 30))
    repeats = torch.randint(0, 4, (30,))
    close = torch.testing.assert_close
    by_weight, by_copies = VonMisesFisher.fit(z, repeats.double()), VonMisesFisher.fit(z.repeat_interleave(repeats, 1))
    close(by_weight.loc, by_copies.loc)
    close(by_weight.concentration, by_copies.concentration)
    assert by_weight.batch_shape == (6,)
    each = VonMisesFisher.fit(z, torch.rand(6, 30, dtype=double))
    assert each.batch_shape == (6,)


@pytest.mark.parametrize("m, kappa, n", [(2, 4.0, 12), (3, 5.0, 10), (3, 500.0, 5), (20, 10.0, 10), (100, 300.0, 4)])
def test_bias_correction(m, kappa, n):
    """A few points: maximum likelihood is too large on average, the correction takes off nearly all of it."""
    z = VonMisesFisher(direction(m), kappa).sample((4000, n))
    plain, corrected = (VonMisesFisher.fit(z, bias_correction=c).concentration for c in (False, True))
    bias, left = plain.mean() / kappa - 1, corrected.mean() / kappa - 1
    noise = corrected.std() / kappa / math.sqrt(4000)
    assert bias > 0.1 and abs(left) < 0.15 * bias + 4 * noise
    assert ((corrected < plain) & (corrected >= 0)).all()


def test_bias_correction_of_scattered_points():
    """No concentration is seen where the mean is no longer than that of uniform points."""
    scattered = HypersphericalUniform(3, dtype=double).sample((500, 10))
    fit = VonMisesFisher.fit(scattered, bias_correction=True).concentration
    short = 10 * scattered.mean(-2).square().sum(-1) <= 1
    assert (fit[short] == 0).all() and (fit[~short] > 0).all() and short.any()


def test_fit_of_degenerate_samples():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=double)
    law = VonMisesFisher.fit(z)
    assert law.concentration == 0 and law.loc.isnan().all()
    assert VonMisesFisher.fit(z[:1]).concentration == math.inf
    with pytest.raises(ValueError, match=r"\(\.\.\., n, m\)"):
        VonMisesFisher.fit(z[0])
    with pytest.raises(ValueError, match="weights"):
        VonMisesFisher.fit(z, torch.ones(3))
    with pytest.raises(TypeError, match="floating"):
        VonMisesFisher.fit(z.long())


# ---- Losses ----


def test_losses_are_the_negative_log_likelihood():
    mu, z = direction(6, 8), direction(6, 8)
    kappa = torch.rand(8, dtype=double) * 30
    expected = -VonMisesFisher(mu, kappa).log_prob(z)
    torch.testing.assert_close(vmf_nll_loss(mu, kappa, z, reduction="none"), expected)
    torch.testing.assert_close(vmf_nll_loss(mu, kappa, z), expected.mean())
    torch.testing.assert_close(vmf_nll_loss(mu, kappa, z, reduction="sum"), expected.sum())
    e = kappa.unsqueeze(-1) * mu
    torch.testing.assert_close(vmf_nll_embedding_loss(e, z, reduction="none"), expected)
    torch.testing.assert_close(vmf_nll_embedding_loss(e / 100, z), vmf_nll_loss(mu, kappa / 100, z))
    for loss in (
        lambda r: vmf_nll_loss(mu, kappa, z, reduction=r),
        lambda r: vmf_nll_embedding_loss(e, z, reduction=r),
    ):
        with pytest.raises(ValueError, match="reduction"):
            loss("median")
    with pytest.raises(ValueError, match="last size"):
        vmf_nll_embedding_loss(e, z[:, :5])


def test_embedding_loss_gradient():
    z = direction(6, 3)
    e = torch.stack([0.3 * direction(6), 40 * direction(6), 1.0 * direction(6)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: vmf_nll_embedding_loss(e, z, reduction="none"), e)
    zero = torch.zeros(6, dtype=double, requires_grad=True)
    value = vmf_nll_embedding_loss(zero, z[0])
    assert value.item() == pytest.approx(log_sphere_area(6), rel=1e-15)
    assert torch.equal(torch.autograd.grad(value, zero)[0], -z[0])


@pytest.mark.parametrize("m", [3, 512, 4096])
def test_gradient_in_kappa_is_continuous(m):
    """Steps of the gradient are those of A_m, at and around kappa = 100 too, where copied losses change method."""
    mu, z = direction(m, dtype=torch.float32), direction(m, dtype=torch.float32)
    kappa = torch.cat([torch.linspace(99, 101, 401), torch.logspace(-2, 6, 801)]).requires_grad_()
    losses = vmf_nll_loss(mu.expand(len(kappa), m), kappa, z, reduction="none")
    slope = torch.autograd.grad(losses.sum(), kappa)[0].double()
    length = vmf_mean_length(m, kappa.detach().double())
    offset = slope - length  # minus the component of z along mu: one number for all kappa
    assert (offset - offset.median()).abs().max() < 4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("m, start, true", [(3, 5.0, 300.0), (512, 20.0, 400.0)])
def test_training_through_kappa_100_lands_on_the_maximum_likelihood(m, start, true):
    mu = direction(m, dtype=torch.float32)
    z = VonMisesFisher(mu, true).sample((500,))
    best = VonMisesFisher.fit(z)
    log_kappa = torch.tensor(math.log(start), requires_grad=True)
    optimizer = torch.optim.Adam([log_kappa], lr=0.2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    path = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = vmf_nll_loss(best.loc, log_kappa.exp(), z)
        loss.backward()
        optimizer.step()
        scheduler.step()
        path.append(log_kappa.exp().item())
    assert path[0] < 100 < path[-1]
    assert path[-1] == pytest.approx(best.concentration.item(), rel=1e-3)


# ---- Inside other distributions, and other dtypes ----


def test_mixture():
    """torch's MixtureSameFamily of vMF components, the movMF model: moments of its draws, and a density."""
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=double)
    parts = VonMisesFisher(direction(4, 3), torch.tensor([2.0, 20.0, 200.0], dtype=double))
    mixture = MixtureSameFamily(Categorical(weights), parts)
    z = mixture.sample((20_000,))
    error = (z.mean(0) - mixture.mean) / (mixture.variance / 20_000).sqrt()
    assert error.abs().max() < 5
    expected = (parts.log_prob(z[:9, None]).exp() * weights).sum(-1).log()
    torch.testing.assert_close(mixture.log_prob(z[:9]), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    law = VonMisesFisher(direction(50, 3).to(dtype), torch.tensor([5.0, 100.0, 1000.0], dtype=dtype))
    z = law.sample((20,))
    assert z.dtype == law.log_prob(z).dtype == law.entropy().dtype == law.variance.dtype == dtype
    single = law.to(torch.float32)
    eps = torch.finfo(dtype).eps
    # A rounding of z and loc moves their distance by up to 2 eps, the log density by kappa times the distance as much.
    distance = (z.float() - law.loc.float()).norm(dim=-1)
    exact = single.log_prob(normalize(z.float(), dim=-1))
    assert ((law.log_prob(z) - exact).abs() <= 4 * eps * (1 + exact.abs() + single.concentration * distance)).all()
    torch.testing.assert_close(law.entropy().float(), single.entropy(), rtol=4 * eps, atol=0)


def test_points_of_another_size_are_refused_and_not_broadcast():
    loc = normalize(torch.randn(4, 3, dtype=double), dim=-1)
    law = VonMisesFisher(loc, torch.ones(4, dtype=double), validate_args=False)
    product = ProductVonMisesFisher(loc, torch.ones(4, 1, dtype=double), (3,), validate_args=False)
    for density in (law.log_prob, product.log_prob, product.log_ratio):
        with pytest.raises(ValueError, match=r"value must have shape \(..., 3\), got \(4, 1\)"):
            density(loc[:, :1])
    with pytest.raises(ValueError, match="target must have shape"):
        vmf_nll_loss(loc, 1.0, loc[:, :1])
    with pytest.raises(TypeError, match="target must be a tensor, not list"):
        vmf_nll_loss(loc, 1.0, [1.0, 0.0, 0.0])


def test_fit_takes_unit_vectors_alone():
    z = normalize(torch.randn(50, 3, dtype=double), dim=-1)
    for bad in (3 * z, z.clone().index_fill_(0, torch.tensor([3]), torch.nan)):
        with pytest.raises(ValueError, match="unit vectors"):
            VonMisesFisher.fit(bad)
    with pytest.raises(ValueError, match="nonnegative"):
        VonMisesFisher.fit(z, torch.full((50,), torch.nan))
    assert VonMisesFisher.fit(torch.cat([z, -z])).concentration < 1e-15
    assert VonMisesFisher.fit(torch.stack([z[0], -z[0]])).concentration == 0


def test_a_law_of_a_million_dimensions_takes_its_own_draws():
    law = HypersphericalUniform(10**6)
    assert law.log_prob(law.sample((2,))).isfinite().all()
    VonMisesFisher(torch.randn(10**6), torch.tensor(1.0))
    half = VonMisesFisher(torch.ones(70_000, dtype=torch.float16), 5.0, validate_args=False)
    assert half.loc.dtype == torch.float16 and abs(half.loc.float().norm() - 1) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dimensions_are_not_rounded_in_half_precision(dtype):
    for m in (513, 70_001):
        loc, kappa = torch.zeros(m, dtype=dtype), torch.tensor([100.0], dtype=dtype)
        loc[0] = 1
        product, single = ProductVonMisesFisher(loc, kappa, (m,)), VonMisesFisher(loc, kappa[0])
        uniform = HypersphericalUniform(m, dtype=dtype)
        assert torch.equal(product.kl_per_shell()[0], kl_divergence(single, uniform))


def test_a_transform_leaves_nothing_behind_that_breaks_the_next():
    """dims that no other test has, so that the constants of their shells are first made within the transform."""
    loc = torch.cat([torch.eye(m)[0] for m in (3, 2, 7)])

    def kl(kappa):
        return ProductVonMisesFisher(loc, kappa, (3, 2, 7)).kl_per_shell().sum()

    kappa = torch.ones(3)
    torch.func.hessian(kl)(kappa)
    assert torch.func.grad(kl)(kappa).isfinite().all()


@pytest.mark.parametrize("module", [vmf_ops.vmf, vmf_ops.distributions])
def test_examples_in_the_documentation(module):
    torch.set_default_device(None)  # the examples print no device
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0
