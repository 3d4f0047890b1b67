"""Laws at the ends of their domain: infinite and zero concentration, zero vectors, overflow, tight data."""

import math

import pytest
import torch
from laws import direction, double
from laws import seeded_and_validated as seeded_and_validated
from torch.distributions import Categorical, MixtureSameFamily, biject_to, kl_divergence, transform_to
from torch.nn.functional import normalize

from vmf_ops.distributions import (
    HypersphericalUniform,
    ProductVonMisesFisher,
    VonMisesFisher,
    product_of_unit_vectors,
    unit_vector,
    vmf_nll_embedding_loss,
    vmf_nll_loss,
)
from vmf_ops.vae import ProductVMFLatent
from vmf_ops.vmf import log_sphere_area, vmf_concentration, vmf_concentration_c

pytestmark = pytest.mark.usefixtures("device")
inf = math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, double])
def test_an_infinite_concentration_is_a_point_mass(dtype):
    points = torch.eye(3, dtype=dtype)[:2]
    law = VonMisesFisher(points[0], inf)
    assert law.log_prob(points).tolist() == [inf, -inf]
    assert law.entropy() == -inf
    assert torch.equal(law.mean, points[0]) and not law.variance.any() and not law.covariance_matrix.any()
    assert torch.equal(law.sample((2,)), points[0].expand(2, 3))
    assert kl_divergence(law, HypersphericalUniform(3, dtype=dtype)) == inf
    same, other, wide = VonMisesFisher(points[0], inf), VonMisesFisher(points[1], inf), VonMisesFisher(points[0], 2.0)
    assert [kl_divergence(law, q).item() for q in (same, other, wide)] == [0, inf, inf]
    assert kl_divergence(wide, law) == inf
    assert vmf_nll_loss(points[0], inf, points, reduction="none").tolist() == [-inf, inf]
    product = ProductVonMisesFisher(torch.eye(5, dtype=dtype)[0] + torch.eye(5, dtype=dtype)[3], [inf, 1.0], (3, 2))
    ends = product.loc.expand(2, 5).clone()
    ends[1, :3] = points[1]
    assert product.log_prob(ends).tolist() == [inf, -inf]


def test_half_overflow_is_infinite():
    law = VonMisesFisher(torch.eye(3, dtype=torch.float16)[0], torch.tensor(12.0).exp().half())
    assert law.log_prob(torch.eye(3, dtype=torch.float16)[0]) == inf


def test_an_infinite_law_has_no_nan_derivative():
    loc, kappa = direction(3, 2).requires_grad_(), torch.tensor([inf, 5.0], dtype=double, requires_grad=True)
    z = direction(3, 2)
    value = VonMisesFisher(loc, kappa, normalize=False).log_prob(z)
    slopes = torch.autograd.grad(value[1], (loc, kappa), retain_graph=True)
    assert all(s.isfinite().all() for s in slopes)
    assert not torch.autograd.grad(value.sum(), kappa)[0].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, double])
@pytest.mark.parametrize("m", [2, 3, 40])
def test_equal_points_fit_a_point_mass(m, dtype):
    z = direction(m, dtype=dtype).expand(5, m)
    law = VonMisesFisher.fit(z)
    assert law.concentration == inf and (law.log_prob(z) == inf).all()
    weights = torch.tensor([[1.0, 2, 3, 4, 5], [0, 0, 1, 0, 0]], dtype=double)
    assert (VonMisesFisher.fit(z, weights).concentration == inf).all()
    many = direction(m, 2000, dtype=dtype)
    tight = VonMisesFisher.fit(many, torch.eye(2000, dtype=double)[:60])  # by matrix products
    assert (tight.concentration == inf).all()


def test_points_about_a_mean_of_zero_fit_the_uniform_law():
    pole = torch.eye(3, dtype=double)[0]
    law = VonMisesFisher.fit(torch.stack([pole, -pole]))
    assert law.concentration == 0 and law.log_prob(pole).item() == pytest.approx(-math.log(4 * math.pi), rel=1e-15)
    nothing = VonMisesFisher.fit(torch.eye(3), torch.zeros(3))
    assert nothing.concentration == 0 and torch.equal(nothing.loc, torch.eye(3)[0])
    some = VonMisesFisher.fit(torch.eye(3), torch.tensor([[0.0, 0, 0], [1, 1, 0]]))
    assert some.concentration[0] == 0 and some.concentration[1] > 0
    torch.testing.assert_close(some.loc[1], normalize(torch.tensor([1.0, 1, 0]), dim=-1))


@pytest.mark.parametrize("m", [2, 3, 5, 70])
@pytest.mark.parametrize("dtype, kappas", [(torch.float32, (1e17, 1e19, 1e30)), (double, (1e17, 1e155, 1e300))])
def test_draws_keep_their_spread_at_any_concentration(m, dtype, kappas):
    """A tangent coordinate is normal with variance 1/kappa; and its derivative in kappa is that of 1/sqrt(kappa)."""
    n = 4000
    for size in kappas:
        kappa = torch.tensor(size, dtype=dtype, requires_grad=True)
        loc = torch.eye(m, dtype=dtype)[0]
        z = VonMisesFisher(loc, kappa).rsample((n,))
        tangent = z[:, 1:].detach().double() * math.sqrt(size)
        assert (tangent.square().mean(0) - 1).abs().max() < 6 * math.sqrt(2 / n)
        slope = torch.autograd.grad(z[:, 1].sum(), kappa)[0].double().item()
        expected = -0.5 * (z[:, 1].double().sum() / size).item()
        # The sum is dominated by no one draw; in float32 its terms may be subnormal.
        if abs(expected) > 1e-30 or dtype is double and abs(expected) > 1e-300:
            assert slope == pytest.approx(expected, rel=1e-3)


def test_zero_vectors_have_a_direction_where_one_is_asked_for():
    zero = torch.zeros(3, requires_grad=True)
    z = transform_to(unit_vector)(zero)
    assert torch.equal(z, torch.eye(3)[0])
    slope = torch.autograd.grad(z[1], zero)[0]
    assert torch.equal(slope, torch.eye(3)[1])
    shells = transform_to(product_of_unit_vectors((3, 2)))(torch.zeros(4, 5))
    assert product_of_unit_vectors((3, 2)).check(shells).all()
    latent = ProductVMFLatent(4, (3, 2))
    for dims in ((3, 2), (3,), (3, 3)):
        latent = ProductVMFLatent(4, dims)
        long = torch.tensor([2e19, 0, 2e19] * 2)[: sum(dims)]
        short = torch.tensor([3e-30, 0, 4e-30] * 2)[: sum(dims)]
        for head in (long, short):
            lengths = [part.norm().item() for part in latent.normalise(head).split(dims)]
            assert lengths == pytest.approx([1.0] * len(dims), abs=1e-6)


@pytest.mark.parametrize("m", [2, 3, 7])
def test_stereographic_projection_is_a_bijection(m):
    to_sphere = biject_to(unit_vector)
    x = torch.randn(20, m - 1, dtype=double) * 3
    z = to_sphere(x)
    assert z.shape == (20, m) and unit_vector.check(z).all()
    torch.testing.assert_close(to_sphere.inv(z), x)
    assert torch.equal(to_sphere(torch.zeros(m - 1)), torch.eye(m)[0])
    # Its Jacobian J has JᵀJ = (scale)² I.
    for point in x[:3]:
        jacobian = torch.func.jacrev(to_sphere)(point)
        half = 0.5 * torch.linalg.slogdet(jacobian.T @ jacobian)[1]
        torch.testing.assert_close(to_sphere.log_abs_det_jacobian(point, to_sphere(point)), half)
    far = torch.full((m - 1,), 1e9, dtype=double)
    torch.testing.assert_close(to_sphere.inv(to_sphere(far)), far)
    assert torch.equal(to_sphere(torch.full((m - 1,), 1e30)), -torch.eye(m)[0])
    assert to_sphere.with_cache().domain is to_sphere.domain
    both = biject_to(product_of_unit_vectors((m, 3)))
    assert both.with_cache() == both != to_sphere
    y = torch.randn(4, m + 1, dtype=double)
    torch.testing.assert_close(both.inv(both(y)), y)
    assert both.forward_shape((4, m + 1)) == (4, m + 3) and both.inverse_shape((4, m + 3)) == (4, m + 1)
    parts = to_sphere.log_abs_det_jacobian(y[:, : m - 1], None) + to_sphere.log_abs_det_jacobian(y[:, m - 1 :], None)
    torch.testing.assert_close(both.log_abs_det_jacobian(y, None), parts)


# ---- Tight data ----


@pytest.mark.parametrize("spread, kappa", [(4e-8, 7.000e14), (1e-9, 1.155e18)])
def test_tight_angles_keep_their_concentration(spread, kappa):
    generator = torch.Generator("cpu").manual_seed(0)
    angle = spread * torch.randn(24, generator=generator, dtype=double, device="cpu")
    z = torch.stack([angle.cos(), angle.sin()], -1)
    law = VonMisesFisher.fit(z)
    # 1 - R is half the variance of the angles, and kappa 1/(2 (1 - R)) on the circle.
    exact = 1 / (angle - angle.mean()).square().mean().item()
    assert law.concentration.item() == pytest.approx(exact, rel=1e-12)
    assert 0.3 < exact * spread**2 < 3 and 0.3 < kappa * spread**2 < 3
    weights = torch.ones(40, 24, dtype=double)
    assert (VonMisesFisher.fit(z, weights).concentration / exact - 1).abs().max() < 1e-12


@pytest.mark.parametrize("m", [2, 3, 10, 500])
@pytest.mark.parametrize("dtype", [torch.float32, double])
def test_concentration_of_a_complement(m, dtype):
    """1 - A = (m-1)/(2κ) - ... for large κ, and the other entry's root where 1 - x is exact."""
    complement = torch.tensor([1e-30, 1e-20, 1e-12], dtype=dtype)
    relative = complement * vmf_concentration_c(m, complement) / ((m - 1) / 2) - 1
    assert relative.abs().max() <= 8 * torch.finfo(dtype).eps + 1e-11
    exact = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=dtype)
    torch.testing.assert_close(vmf_concentration_c(m, exact), vmf_concentration(m, 1 - exact), rtol=1e-6, atol=0)
    assert vmf_concentration_c(m, torch.tensor([-0.1, 1.1, math.nan], dtype=dtype)).isnan().all()
    inner = exact[1:4].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: vmf_concentration_c(m, c), inner)
    assert torch.autograd.gradgradcheck(lambda c: vmf_concentration_c(m, c), inner)


# ---- Digits ----


@pytest.mark.parametrize("dtype", [torch.float32, double])
def test_derivative_at_small_concentration_keeps_its_digits(dtype):
    """w - A(κ), A = κ/m: at right angles to μ nothing of size 1 may enter."""
    m, size = 500, 1e-6
    loc, z = torch.eye(m, dtype=dtype)[0], torch.eye(m, dtype=dtype)[1]
    for value in (
        lambda k: VonMisesFisher(loc, k).log_prob(z),
        lambda k: ProductVonMisesFisher(loc, k.unsqueeze(-1), (m,)).log_prob(z),
        lambda k: -vmf_nll_loss(loc, k, z),
    ):
        kappa = torch.tensor(size, dtype=dtype, requires_grad=True)
        slope = torch.autograd.grad(value(kappa), kappa)[0]
        assert slope.item() == pytest.approx(-size / m, rel=1e-6)
    law = VonMisesFisher(loc, torch.full((4,), size, dtype=dtype))
    assert law.log_prob(z)[0].item() == pytest.approx(-log_sphere_area(m), rel=1e-6)


def test_an_embedding_of_a_length_beyond_half():
    """In half the length is 67882, for which half has no number; by the large-κ form of the normaliser."""
    m = 2048
    e = torch.full((m,), 1500.0, dtype=torch.float16)
    target = torch.zeros(m, dtype=torch.float16)
    target[:] = 1 / math.sqrt(m)
    exact = vmf_nll_embedding_loss(e.double(), target.double())
    got = vmf_nll_embedding_loss(e, target)
    assert got.dtype == torch.float16 and got.item() == pytest.approx(exact.item(), rel=1e-3)
    assert exact.item() == pytest.approx(-9513.6, rel=1e-3)
    long = torch.tensor([3e19, 4e19, 0.0])
    loss = vmf_nll_embedding_loss(long, long / 5e19)
    assert loss.item() == pytest.approx(-math.log(5e19 / (2 * math.pi)), rel=1e-6)


def test_half_overflow_of_an_area_is_one_behaviour():
    m = 100_000
    loc = torch.zeros(m, dtype=torch.float16)
    loc[0] = 1
    laws = VonMisesFisher(loc, 1.0), HypersphericalUniform(m, dtype=torch.float16)
    assert laws[0].log_prob(loc) == laws[1].log_prob(loc) == inf
    assert laws[0].entropy() == laws[1].entropy() == -inf


# ---- Types ----


def test_arguments_promote_as_torch_does():
    loc = direction(3, dtype=torch.bfloat16)
    assert VonMisesFisher(loc, torch.tensor(2.0)).concentration.dtype == torch.bfloat16
    assert VonMisesFisher(loc, torch.tensor([2.0])).loc.dtype == torch.float32
    assert VonMisesFisher(torch.tensor([1, 0, 0]), 2).loc.dtype == torch.float32
    assert VonMisesFisher(torch.tensor([1, 0, 0]), torch.tensor([1, 2])).concentration.dtype == torch.float32
    law = VonMisesFisher(direction(3), [1.0, 0.1])
    assert law.concentration.dtype == double and law.concentration[1] == 0.1
    array = VonMisesFisher(direction(3, 2), law.concentration.numpy(force=True))
    assert torch.equal(array.concentration, law.concentration)
    assert VonMisesFisher([0.0, 3.0], 1.0).loc.tolist() == [0, 1]
    assert VonMisesFisher(loc, torch.tensor(3)).concentration.dtype == torch.bfloat16
    product = ProductVonMisesFisher([1, 0, 0, 1], [1, 2], (2, 2))
    assert product.log_prob(product.mode).isfinite()
    assert vmf_nll_loss(loc, [1.0], loc[None]).isfinite()


def test_fit_says_which_row_is_off_and_how_far():
    half = normalize(torch.randn(100, 384), dim=-1).half().float()
    with pytest.raises(ValueError, match=r"of 100 rows have other lengths, the worst row \d+ of length [01]\.[90]"):
        VonMisesFisher.fit(half)
    assert VonMisesFisher.fit(half, normalize=True).concentration.isfinite()
    z = direction(3, 1000)
    z[317] = 0
    with pytest.raises(ValueError, match="1 of 1000 rows .* row 317 of length 0; normalize"):
        VonMisesFisher.fit(z)
    with pytest.raises(ValueError, match="row 317"):
        VonMisesFisher.fit(z, normalize=True)


def test_em_goes_on_where_points_coincide():
    z = torch.cat([direction(4, 100), direction(4).expand(6, 4)])
    responsibilities = torch.rand(106, 3, dtype=double)
    responsibilities[100:] = torch.tensor([0.0, 0.0, 1.0])
    responsibilities[:100, 2] = 0
    for _ in range(5):
        laws = VonMisesFisher.fit(z, responsibilities.T)
        mixture = MixtureSameFamily(Categorical(responsibilities.mean(0)), laws)
        assert mixture.log_prob(z).isnan().sum() == 0
        bounded = laws.log_prob(z.unsqueeze(-2)).clamp_max(1e6)
        responsibilities = bounded.softmax(-1)
    assert laws.concentration[2] == inf and laws.concentration[:2].isfinite().all()
