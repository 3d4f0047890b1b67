"""The gradients of the draws: psi to the quadrature of its definition, and unbiased for the means of any function."""

import mpmath
import pytest
import torch
from conftest import seeded
from test_sampling import directions

import vmf_ops

pytestmark = pytest.mark.usefixtures("device")

double = torch.float64
LAWS = [(2, 2.0), (5, 2.0), (11, 5.0), (50, 10.0)]
# Standard errors that a mean of draws may be off: a chance of 6e-6 at each fixed seed.
ERRORS = 4.5


def psi_of(m, kappa, d, dtype):
    """psi at w = 1-d through forward mode: kappa moving by 1/d moves z along mu by psi c."""
    d = torch.as_tensor(d, dtype=dtype)
    c = 2 - d
    n = d.numel()
    mu = torch.zeros(1, n, m, dtype=dtype)
    mu[..., 0] = 1
    kappa = torch.full((1, n, 1), kappa, dtype=dtype)
    tangent = torch.ops.vmf_ops.sample_vmf_forward_ad(
        torch.zeros_like(mu), (1 / d)[None, :, None], mu, torch.stack([d, c])[None, :, None], mu, kappa, [m], True
    )
    return tangent[0, :, 0].double() / c.double()


def psi_by_definition(m, kappa, d):
    """-(dF/dkappa)/density/(1-w^2) at 30 digits, integrated on the side where it has one sign."""
    with mpmath.workdps(30):
        kappa, w, v = mpmath.mpf(kappa), 1 - mpmath.mpf(d), mpmath.mpf(m) / 2 - 1
        mean = mpmath.besseli(v + 1, kappa) / mpmath.besseli(v, kappa) if kappa else mpmath.mpf(0)
        theta = mpmath.acos(w)

        def integrand(f):
            return (
                (mpmath.cos(f) - mean)
                * mpmath.exp(kappa * (mpmath.cos(f) - w))
                * ((mpmath.sin(f) / mpmath.sin(theta)) ** (m - 2))
            )

        inward = w >= mean
        room = theta if inward else mpmath.pi - theta
        step = min(room, 4 / mpmath.sqrt(kappa + m)) / 4
        cuts = [step * i for i in range(40) if step * i < room] + [room]
        sign = -1 if inward else 1
        return float(abs(mpmath.quad(lambda u: integrand(theta + sign * u), cuts)) / mpmath.sin(theta))


def test_psi_is_its_definition():
    quantiles = torch.tensor([1e-3, 0.2, 0.5, 0.9, 0.999], dtype=double)
    for m in (2, 3, 4, 11, 65, 2000):
        for kappa in (0.0, 0.75, 8.0, 12.75, 40.0, 2000.0):
            n = m - 1
            b = n / ((n * n + 4 * kappa * kappa) ** 0.5 + 2 * kappa)
            tails = torch.tensor([1e-6 * b, 2 - 1e-4], dtype=double)
            # Points spread like the law itself: the envelope's quantiles, roughly, and both tails; exact in float32.
            e = torch.sigmoid(torch.logit(quantiles) / max(n, 1) ** 0.5)
            d = torch.cat([2 * b * e / (1 - e + b * e), tails]).float().double()
            expected = torch.tensor([psi_by_definition(m, kappa, x) for x in d.tolist()], dtype=double)
            for dtype, tolerance in ((double, 1e-9), (torch.float32, 1e-4)):
                error = (psi_of(m, kappa, d, dtype) / expected - 1).abs()
                assert error.max() < tolerance, (m, kappa, dtype, d[error.argmax()].item())


def test_psi_in_single_precision_is_as_good_as_documented():
    """2.0e-5, worst on the circle, where a cut of the integrand leaves the most behind; against double precision."""
    for m in (2, 4, 23, 24, 500, 1200):
        for kappa in torch.logspace(-1, 3, 25).tolist():
            b = (m - 1) / (((m - 1) ** 2 + 4 * kappa * kappa) ** 0.5 + 2 * kappa)
            e = torch.linspace(0.0005, 0.9995, 2000, dtype=double)
            d = (2 * b * e / (1 - e + b * e)).float().double()
            error = psi_of(m, kappa, d, torch.float32) / psi_of(m, kappa, d, double) - 1
            assert error.abs().max() < 2.2e-5, (m, kappa)


@pytest.mark.parametrize("dtype", [double, torch.float32])
def test_a_certain_draw_does_not_move_with_its_concentration(dtype):
    dims = (2, 3, 5, 41, 1200)
    loc = torch.cat([torch.eye(m, dtype=dtype)[0] for m in dims])
    for gradient in ("implicit", "rsvi"):
        kappa = torch.full((5,), torch.inf, dtype=dtype, requires_grad=True)
        z = vmf_ops.sample_vmf(loc, kappa, dims, gradient=gradient)
        assert torch.equal(z, loc)
        (grad,) = torch.autograd.grad(z.sum(), kappa)
        assert torch.equal(grad, torch.zeros_like(kappa))


@pytest.mark.parametrize("dtype, tolerance", [(double, 1e-9), (torch.float32, 1e-4)])
def test_psi_at_the_poles(dtype, tolerance):
    """psi(1) = (1-A)/(m-1); it joins the quadrature there without a step. Also where kappa and m are extreme."""
    for m in (2, 3, 5, 41, 1000, 100_000):
        for kappa in (0.0, 1e-3, 1.0, 100.0, 1e8):
            mean_complement = vmf_ops.iv_ratio_c(m / 2, torch.tensor(kappa, dtype=double))
            near = torch.tensor([1e-28, 1e-20, 1e-9 * tolerance, 0.1 * tolerance], dtype=double) / (kappa + m)
            psi = psi_of(m, kappa, near.to(dtype), dtype)
            assert torch.all((psi * (m - 1) / mean_complement - 1).abs() < tolerance), (m, kappa)


@pytest.mark.parametrize("flush", [False, True])
def test_psi_of_a_huge_concentration(flush):
    """There a draw is normal about its mean, so d is as 1/kappa and psi = 1/(2 kappa); where denormals flush too."""
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor does not flush denormals")
    try:
        for m in (2, 3, 4, 23, 24, 2000):
            for kappa in (1e18, 1e25, 1e31, 1e35, 1e37):
                d = torch.tensor([1e-7, 1e-4, 0.01, 1, 10], dtype=double) * m / kappa
                psi = psi_of(m, kappa, d.clamp_min(2.0**-126), torch.float32)
                assert ((psi * 2 * kappa - 1).abs() < 1e-5).all(), (m, kappa)
    finally:
        torch.set_flush_denormal(False)


def test_gradients_are_finite_everywhere():
    for dtype in (torch.float32, double):
        for m in (2, 3, 4, 16, 70, 4096):
            kappa = torch.tensor([0, 1e-30, 1e-8, 1e-3, 1, 1e3, 1e6, 1e8], dtype=dtype)[:, None].requires_grad_()
            mu = torch.eye(m, dtype=dtype)[:1].repeat(8, 1).requires_grad_()
            z = vmf_ops.sample_vmf(mu, kappa, sample_shape=(50,))
            assert all(torch.isfinite(g).all() for g in torch.autograd.grad(z.square().sum() + z.sum(), (mu, kappa)))


def exponential_mean(mu, kappa, a):
    """E exp(a.z) = C(kappa)/C(|kappa mu + a|), log C = v log kappa - log I_v(kappa) + constant."""
    v = mu.numel() / 2 - 1
    moved = (kappa * mu + a).norm()
    log_c = [v * torch.log(k) - vmf_ops.log_iv(v, k) for k in (kappa, moved)]
    return torch.exp(log_c[0] - log_c[1])


def check_mean(samples, expected, what):
    samples = samples.double()
    error = (samples.mean(0) - expected).abs() / (samples.std(0) / samples.size(0) ** 0.5)
    assert error.max() < ERRORS, (what, error)


@pytest.mark.parametrize("m, kappa", [*LAWS, (3, 2.0)])
@pytest.mark.parametrize("dtype", [double, torch.float32])
def test_gradients_of_means_are_unbiased(m, kappa, dtype):
    """For f(z) = exp(a.z), in kappa and along every direction of loc, and for the rsvi gradient with its correction."""
    torch.manual_seed(20 + m)
    rows = 100_000
    mu0 = directions(1, (m,), double)[0]
    a = 0.8 * mu0 + 1.5 * directions(1, (m,), double)[0]
    mu, k = mu0.clone().requires_grad_(), torch.tensor(kappa, dtype=double, requires_grad=True)
    mu_slope, kappa_slope = torch.autograd.grad(exponential_mean(mu, k, a), (mu, k))
    mu_slope = mu_slope - (mu_slope @ mu0) * mu0  # along the sphere

    f = lambda z: torch.exp(z @ a.to(dtype))  # noqa: E731
    for gradient in ("implicit", "rsvi"):
        loc = mu0.to(dtype).repeat(rows, 1).requires_grad_()
        concentration = torch.full((rows, 1), kappa, dtype=dtype, requires_grad=True)
        z = vmf_ops.sample_vmf(loc, concentration, gradient=gradient)
        mu_grad, kappa_grad = torch.autograd.grad(f(z).sum(), (loc, concentration))
        if gradient == "rsvi":
            kappa_grad = kappa_grad + vmf_ops.rsvi_correction(f(z), z, loc, concentration)
        check_mean(kappa_grad[:, 0], kappa_slope, gradient)
        check_mean(mu_grad.double() @ (frame := torch.linalg.svd(mu0[None])[2][1:]).T, frame @ mu_slope, gradient)


@pytest.mark.parametrize("m, kappa", LAWS)
def test_mean_and_variance_move_as_a_m_does(m, kappa):
    torch.manual_seed(40 + m)
    rows = 200_000
    k = torch.tensor(kappa, dtype=double, requires_grad=True)
    mean = vmf_ops.iv_ratio(m / 2, k)
    (slope,) = torch.autograd.grad(mean, k, create_graph=True)  # A' = Var w
    (curvature,) = torch.autograd.grad(slope, k)
    mu = torch.eye(m, dtype=double)[:1]
    concentration = torch.full((rows, 1), kappa, dtype=double, requires_grad=True)
    w = vmf_ops.sample_vmf(mu, concentration)[:, 0]
    (w_grad,) = torch.autograd.grad(w.sum(), concentration)
    w, w_grad, mean, slope = w.detach(), w_grad[:, 0], mean.detach(), slope.detach()
    check_mean(w_grad, slope, "mean")
    check_mean(2 * (w - mean) * w_grad, curvature, "variance")


@pytest.mark.parametrize("m, kappa, ratio", [(2, 2.0, 0.515), (5, 2.0, 0.866), (50, 10.0, 0.995)])
def test_rsvi_has_its_published_bias(m, kappa, ratio):
    torch.manual_seed(60 + m)
    rows = 400_000
    k = torch.tensor(kappa, dtype=double, requires_grad=True)
    (truth,) = torch.autograd.grad(vmf_ops.iv_ratio(m / 2, k), k)
    concentration = torch.full((rows, 1), kappa, dtype=double, requires_grad=True)
    z = vmf_ops.sample_vmf(torch.eye(m, dtype=double)[:1], concentration, gradient="rsvi")
    (w_grad,) = torch.autograd.grad(z[:, 0].sum(), concentration)
    relative = w_grad[:, 0] / truth
    # The published number has three digits.
    assert (relative.mean() - ratio).abs() < 5e-4 + ERRORS * relative.std() / rows**0.5


def test_rsvi_is_implicit_at_m_3():
    mu, kappa = directions(100, (3,), double), torch.full((100, 1), 4.0, dtype=double, requires_grad=True)
    grads = []
    for gradient in ("implicit", "rsvi"):
        torch.manual_seed(5)
        z = vmf_ops.sample_vmf(mu, kappa, gradient=gradient)
        grads.append(torch.autograd.grad(z.sin().sum(), kappa)[0])
    assert torch.equal(*grads)
    assert torch.all(vmf_ops.rsvi_correction(z.sum(-1), z, mu, kappa) == 0)


def test_inversion_at_m_3_by_finite_differences():
    """At m = 3 nothing is rejected, so one key's draw is a smooth function of kappa."""
    mu = directions(4, (3,), double)
    key = torch.tensor(3)
    for kappa in (1e-3, 0.5, 2.0, 30.0):
        point = torch.full((4, 1), kappa, dtype=double, requires_grad=True)
        draw = lambda k: vmf_ops.sampling._sample(mu, k, key, (3,), (4,), True)  # noqa: E731
        assert torch.autograd.gradcheck(draw, (point,), eps=1e-6 * max(kappa, 1e-2), atol=1e-7, check_forward_ad=True)


@pytest.mark.parametrize("m", [2, 3, 5, 70])
def test_loc_gradient_is_the_rotation_that_takes_it_along(m):
    """z(mu + du) = z + (du mu' - mu du') z for du along the sphere; a change of length does nothing. Poles included."""
    torch.manual_seed(80 + m)
    eye = torch.eye(m, dtype=double)
    for mu in (eye[0], -eye[0], directions(1, (m,), double)[0]):
        move = torch.randn(m, dtype=double)
        along = move - (move @ mu) * mu
        torch.manual_seed(3)
        z, tangent = torch.func.jvp(
            lambda mu: vmf_ops.sample_vmf(mu, torch.tensor([4.0], dtype=double), sample_shape=(20,)), (mu,), (move,)
        )
        expected = (z @ mu)[:, None] * along - (z @ along)[:, None] * mu
        assert torch.allclose(tangent, expected, atol=20 * torch.finfo(double).eps)
        # and reverse mode is its transpose
        weight = torch.randn_like(z)
        torch.manual_seed(3)
        leaf = mu.clone().requires_grad_()
        draw = vmf_ops.sample_vmf(leaf, torch.tensor([4.0], dtype=double), sample_shape=(20,))
        (grad,) = torch.autograd.grad(draw, leaf, weight)
        assert torch.allclose(grad @ move, (weight * tangent).sum(), atol=1e-12)


def test_finite_differences_on_the_circle():
    """At m = 2 the tangent is a smooth function of loc, and the draw turns with it."""
    angle = torch.linspace(0, 6, 7, dtype=double, requires_grad=True)
    key = torch.tensor(4)
    kappa = torch.full((7, 1), 2.0, dtype=double)
    draw = lambda t: vmf_ops.sampling._sample(  # noqa: E731
        torch.stack([t.cos(), t.sin()], -1), kappa, key, (2,), (7,), True
    )
    assert torch.autograd.gradcheck(draw, (angle,), check_forward_ad=True)


def test_one_key_moves_shells_as_it_moves_them_alone():
    """The gradient of each shell of a product is its own."""
    torch.manual_seed(90)
    dims = (2, 3, 4, 11, 70)
    mu, kappa = directions(30, dims, double).requires_grad_(), torch.rand(30, 5, dtype=double).mul(9).requires_grad_()
    z = vmf_ops.sample_vmf(mu, kappa, dims)
    for shell, part in enumerate(z.split(dims, -1)):
        mu_grad, kappa_grad = torch.autograd.grad(part.sin().sum(), (mu, kappa), retain_graph=True)
        others = [g for k, g in enumerate(mu_grad.split(dims, -1)) if k != shell]
        assert all(torch.all(g == 0) for g in others)
        assert torch.all(kappa_grad[:, [k for k in range(5) if k != shell]] == 0) and torch.all(
            kappa_grad[:, shell] != 0
        )


def test_correction_checks_its_arguments():
    mu, kappa = directions(4, (3, 2), torch.float32), torch.ones(4, 2)
    z = vmf_ops.sample_vmf(mu, kappa, (3, 2))
    with pytest.raises(ValueError, match=r"\(7,\).*\(4, 5\)"):
        vmf_ops.rsvi_correction(torch.ones(7), z, mu, kappa, (3, 2))
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
        vmf_ops.rsvi_correction(torch.ones(4), z[:, :4], mu, kappa, (3, 2))
    assert vmf_ops.rsvi_correction(torch.ones(4), z, mu, kappa, (3, 2)).shape == (4, 2)


@pytest.mark.parametrize("m", [2, 3, 5, 40])
def test_float32_gradient_in_kappa_keeps_its_sign_and_mean_at_a_large_kappa(m):
    # 1 - w is some 1e-8 there, below the rounding of z along mu, which must not reach the gradient.
    torch.manual_seed(m)
    mu = torch.nn.functional.normalize(torch.randn(m, dtype=torch.float64), dim=0).float()
    kappa = torch.full((20_000, 1), 1e8, requires_grad=True)
    z = vmf_ops.sample_vmf(mu.expand(20_000, m), kappa)
    (grad,) = torch.autograd.grad((z * mu).sum(), kappa)
    assert (grad >= 0).all()
    truth = vmf_ops.vmf.mean_length_slope(m, torch.tensor(1e8, dtype=torch.float64))
    standard_error = grad.double().std() / 20_000**0.5
    assert abs(grad.double().mean() - truth) <= 4 * standard_error
    _, tangent = torch.func.jvp(
        lambda k: vmf_ops.sample_vmf(mu.expand(1000, m), k, generator=seeded(0)),
        (kappa.detach()[:1000],),
        (torch.ones(1000, 1),),
    )
    assert ((tangent * mu).sum(-1) >= -torch.finfo(torch.float32).eps * tangent.norm(dim=-1)).all()


def test_a_draw_may_be_changed_in_place():
    kappa = torch.ones(3, 1, requires_grad=True)
    z = vmf_ops.sample_vmf(torch.eye(3), kappa)
    z *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):  # backward reads the draw
        z.sum().backward()
