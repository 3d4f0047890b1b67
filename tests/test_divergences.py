"""Kullback-Leibler divergences of the laws: formulae, digits, gradients."""

import copy
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import DIMS, direction, double, product
from laws import seeded_and_validated as seeded_and_validated
from torch.distributions import (
    Independent,
    kl_divergence,
)

from vmf_ops.distributions import (
    HypersphericalUniform,
    ProductHypersphericalUniform,
    ProductVonMisesFisher,
    VonMisesFisher,
)
from vmf_ops.distributions.divergence import kl_between
from vmf_ops.vmf import vmf_kl_uniform

pytestmark = pytest.mark.usefixtures("device")


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


def test_kl_of_large_dimensions():
    """A(κ) is κ/m there, and KL (p-q)²/2m."""
    for dtype, m, kappa in ((torch.float32, 1e36, 1e10), (torch.float32, 1e33, 1.0), (double, 1e300, 1e20)):
        p, q = (
            torch.tensor([kappa, kappa, 1.1 * kappa], dtype=dtype),
            torch.tensor([1.1, 9.0, 0.0], dtype=dtype) * kappa,
        )
        kl = kl_between(torch.tensor(m, dtype=dtype), p, q, torch.zeros_like(p))
        exact = (p.double() - q.double()).square() / (2 * m)
        torch.testing.assert_close(kl.double(), exact, rtol=64 * torch.finfo(dtype).eps, atol=0)


def test_kl_has_derivatives_of_every_kind():
    """The first ones in reverse mode come from the kernel, the others from functions: they are the same."""
    m = torch.tensor([2.0, 3.0, 41.0], dtype=double)
    p, q, distance = (
        torch.tensor(t, dtype=double, requires_grad=True) for t in ([0.3, 5.0, 40.0], [1.0, 4.0, 1e3], [0.1, 0.0, 2.0])
    )

    def kl(*inputs):
        return kl_between(m, *inputs)

    assert torch.autograd.gradcheck(kl, (p, q, distance), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(kl, (p, q, distance))
    by_reverse = torch.func.jacrev(kl, (0, 1, 2))(p, q, distance)
    by_forward = torch.func.jacfwd(kl, (0, 1, 2))(p, q, distance)
    for a, b in zip(by_reverse, by_forward, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-16)
    zero = torch.zeros(3, dtype=double, requires_grad=True)  # at the uniform law A' is 1/m
    slope = torch.autograd.grad(kl(zero, q, distance).sum(), zero)[0]
    torch.testing.assert_close(slope, q * (0.5 * distance - 1) / m)


def test_kl_of_one_dimension_broadcasts_as_that_of_many():
    p, q = torch.rand(4, 3, dtype=double), torch.rand(3, dtype=double)
    for distance in (torch.zeros((), dtype=double), torch.rand(2, 4, 3, dtype=double)):
        each = torch.stack(
            [kl_between(5, p[:, k], q[k], distance[..., k] if distance.dim() else distance) for k in range(3)], -1
        )
        assert torch.equal(kl_between(torch.full((3,), 5, dtype=double), p, q, distance), each)
        assert torch.equal(kl_between(5, p, q, distance), each)


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
