"""vmf_ops.distributions as citizens of torch.distributions: densities, draws, shapes, transforms."""

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
from laws import DIMS, direction, double, product
from laws import seeded_and_validated as seeded_and_validated
from torch.distributions import (
    Categorical,
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
    vmf_nll_loss,
)
from vmf_ops.vmf import vmf_mean_length

pytestmark = pytest.mark.usefixtures("device")


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
    with pytest.raises(TypeError, match="concentration"):
        VonMisesFisher(mu, "1")
    with pytest.raises(TypeError, match="loc must be numbers or a tensor, got dict"):
        VonMisesFisher({}, 1.0)
    with pytest.raises(ValueError, match="10"):
        ProductVonMisesFisher(direction(9), torch.ones(3, dtype=double), DIMS)
    with pytest.raises(ValueError, match="3"):
        ProductVonMisesFisher(direction(10), torch.ones(2, dtype=double), DIMS)
    for dims in ((5, 1), ()):
        with pytest.raises(ValueError, match="dims"):
            ProductHypersphericalUniform(dims)
    with pytest.raises(TypeError, match="integers"):
        ProductHypersphericalUniform((2.5, 3))
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


@pytest.mark.parametrize("module", [vmf_ops.vmf, vmf_ops.distributions.von_mises_fisher])
def test_examples_in_the_documentation(module):
    torch.set_default_device(None)  # the examples print no device
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0
