"""VonMisesFisher.fit: maximum likelihood, weights, bias correction, degenerate samples."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from laws import direction, double
from laws import seeded_and_validated as seeded_and_validated
from torch.nn.functional import normalize

from vmf_ops.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
)

pytestmark = pytest.mark.usefixtures("device")


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
    assert law.concentration == 0 and torch.equal(law.loc, torch.tensor([1.0, 0.0], dtype=double))
    assert VonMisesFisher.fit(z[:1]).concentration == math.inf
    with pytest.raises(ValueError, match=r"\(\.\.\., n, m\)"):
        VonMisesFisher.fit(z[0])
    with pytest.raises(ValueError, match="weights"):
        VonMisesFisher.fit(z, torch.ones(3))
    with pytest.raises(TypeError, match="floating"):
        VonMisesFisher.fit(z.long())


def test_fit_takes_unit_vectors_alone():
    z = normalize(torch.randn(50, 3, dtype=double), dim=-1)
    for bad in (3 * z, z.clone().index_fill_(0, torch.tensor([3]), torch.nan)):
        with pytest.raises(ValueError, match="unit vectors"):
            VonMisesFisher.fit(bad)
    with pytest.raises(ValueError, match="nonnegative"):
        VonMisesFisher.fit(z, torch.full((50,), torch.nan))
    assert VonMisesFisher.fit(torch.cat([z, -z])).concentration < 1e-15
    assert VonMisesFisher.fit(torch.stack([z[0], -z[0]])).concentration == 0


def test_a_fit_without_laws_or_under_a_transform():
    assert VonMisesFisher.fit(torch.ones(0, 4, 3, dtype=double)).batch_shape == (0,)
    z, weights = direction(5, 30), torch.rand(4, 30, dtype=double)
    together = VonMisesFisher.fit(z, weights)
    each = torch.func.vmap(lambda w: VonMisesFisher.fit(z, w).natural)(weights)
    torch.testing.assert_close(each, together.natural)
    assert torch.autograd.gradcheck(lambda w: VonMisesFisher.fit(z, w).natural, weights[:2].requires_grad_())
