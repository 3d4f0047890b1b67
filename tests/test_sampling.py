"""The law of the draws: exact at every dimension and concentration, and a function of key, row and shell alone."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import vmf_ops

pytestmark = pytest.mark.usefixtures("device")

DTYPES = [torch.float32, torch.float64]
MOMENTS = [(2, 1.0), (3, 5.0), (41, 11.0), (512, 50.0), (4096, 1000.0)]
# A test at fixed seeds fails by chance of its draws once and for all: levels are set so that this is rarer than 1e-4.
RARE = 1e-4


def directions(rows, dims, dtype, device=None):
    parts = [torch.randn(rows, m, dtype=torch.float64, device=device) for m in dims]
    return torch.cat([p / p.norm(dim=-1, keepdim=True) for p in parts], -1).to(dtype)


def concentrations(rows, kappas, dtype, device=None):
    return torch.tensor(kappas, dtype=dtype, device=device).expand(rows, -1)


def length_error(t):
    """Largest | |t| - 1 |, in extended precision."""
    return float(abs(np.sqrt(np.square(t.numpy(force=True).astype(np.longdouble)).sum(-1)) - 1).max())


def angle(z, mu):
    """The angle between z and mu, without cancellation at either end."""
    return 2 * torch.atan2((z - mu).norm(dim=-1), (z + mu).norm(dim=-1))


def angle_distribution(m, kappa, points=20_001):
    """The angle's distribution function on a grid that holds all but 1e-20 of the mass."""

    def log_density(t):
        return kappa * (np.cos(t) - 1) + (m - 2) * np.log(np.maximum(np.sin(t), 1e-300)) * (m > 2)

    coarse = np.geomspace(1e-9, np.pi, 20_000)
    height = log_density(coarse)
    inside = coarse[height > height.max() - 50]
    grid = np.linspace(0 if m < 10 else inside[0], inside[-1], points)
    height = log_density(grid)
    total = integrate.cumulative_simpson(np.exp(height - height.max()), x=grid, initial=0)
    return grid, total / total[-1]


LAWS = [(m, kappa) for m in (2, 3, 4, 5, 11, 41, 65, 512) for kappa in (0.0, 0.5, 5.0, 100.0, 1e8)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_angle_follows_its_law(dtype, device):
    torch.manual_seed(0)
    worst = {}
    for m, kappa in LAWS:
        rows = 100_000 if m < 100 else 20_000
        mu = directions(rows, (m,), dtype, device)
        z = vmf_ops.sample_vmf(mu, concentrations(rows, [kappa], dtype, device))
        grid, distribution = angle_distribution(m, kappa)
        observed = np.interp(angle(z.double(), mu.double()).numpy(force=True), grid, distribution)
        worst[m, kappa] = stats.kstest(observed, "uniform").pvalue
    assert min(worst.values()) > RARE / len(worst), worst


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, kappa", [(2, 3.0), (3, 3.0), (4, 0.5), (5, 20.0), (11, 5.0), (70, 30.0)])
def test_tangent_is_isotropic(m, kappa, dtype):
    torch.manual_seed(1)
    rows = 100_000
    poles = torch.eye(m, dtype=dtype)
    for mu in (poles[0], -poles[0], poles[-1], -poles[-1], directions(1, (m,), dtype)[0]):
        z = vmf_ops.sample_vmf(mu, concentrations(1, [kappa], dtype), sample_shape=(rows,))[:, 0].double()
        w = z @ mu.double()
        tangent = torch.nn.functional.normalize(z - w[:, None] * mu.double(), dim=-1)
        frame = torch.linalg.svd(mu.double()[None])[2][1:]
        t = tangent @ frame.T  # uniform on the unit sphere of R^(m-1)
        n = m - 1
        scores = [t.mean(0) * (n * rows) ** 0.5]
        if n > 1:
            # Var(t_i t_j) = 1/(n(n+2)), Var(t_i^2) = 2(n-1)/(n^2(n+2))
            spread = torch.full((n, n), n * (n + 2.0), dtype=torch.float64) ** -0.5
            spread.fill_diagonal_((2 * (n - 1) / (n * n * (n + 2))) ** 0.5)
            covariance = t.T @ t / rows - torch.eye(n, dtype=torch.float64) / n
            scores.append((covariance / spread * rows**0.5).flatten())
        scores.append((w - w.mean()) / w.std() @ t * (n / rows) ** 0.5)
        scores = torch.cat(scores)
        limit = stats.norm.isf(RARE / 10 / scores.numel())
        assert scores.abs().max() < limit, mu


def test_shells_and_rows_are_independent():
    torch.manual_seed(2)
    dims, rows = (2, 3, 5, 5, 2, 3), 100_000
    z = vmf_ops.sample_vmf(directions(1, dims, torch.float64)[0], torch.full((6,), 2.0, dtype=torch.float64), dims,
                           sample_shape=(rows,))  # fmt: skip
    z = torch.cat([z[1:], z[:-1]], 1)  # beside each draw, the one of the row before
    r = torch.corrcoef(z.T)
    shell = torch.repeat_interleave(torch.arange(12), torch.tensor(dims * 2))
    across = r[shell[:, None] != shell[None]]
    assert across.abs().max() * rows**0.5 < stats.norm.isf(RARE / across.numel())


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_is_a_m(dtype, device):
    torch.manual_seed(3)
    rows = 20_000
    dims = tuple(m for m, _ in MOMENTS)
    kappas = [kappa for _, kappa in MOMENTS]

    def check(w, m, kappa):
        error = (w.mean() - vmf_ops.iv_ratio(m / 2, torch.tensor(kappa, dtype=torch.float64, device=device))).abs()
        assert error < 4 * w.std() / rows**0.5, (m, kappa)

    mu = directions(1, dims, dtype, device)[0]
    z = vmf_ops.sample_vmf(mu, torch.tensor(kappas, dtype=dtype, device=device), dims, sample_shape=(rows,))
    for part, centre, m, kappa in zip(z.split(dims, -1), mu.split(dims), dims, kappas, strict=True):
        check((part.double() @ centre.double()), m, kappa)
        alone = vmf_ops.sample_vmf(centre, torch.tensor([kappa], dtype=dtype, device=device), sample_shape=(rows,))
        check(alone.double() @ centre.double(), m, kappa)


@pytest.mark.parametrize("m, kappa", [(3, 5.0), (4, 1.0), (11, 20.0)])
def test_agrees_with_scipy(m, kappa):
    torch.manual_seed(4)
    mu = directions(1, (m,), torch.float64)[0]
    ours = vmf_ops.sample_vmf(mu, torch.tensor([kappa], dtype=torch.float64), sample_shape=(50_000,)).numpy(force=True)
    theirs = stats.vonmises_fisher(mu.numpy(force=True), kappa).rvs(50_000, random_state=5)
    for axis in (mu.numpy(force=True), np.eye(m)[0], np.ones(m)):
        assert stats.ks_2samp(ours @ axis, theirs @ axis).pvalue > RARE


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_of_unit_length(dtype, device):
    torch.manual_seed(6)
    eps = torch.finfo(dtype).eps
    for m in (2, 3, 4, 5, 16, 63, 64, 65, 127, 1000, 100_000):
        rows = 2000 if m < 1000 else 8
        poles = torch.zeros(4, m, dtype=dtype, device=device)
        poles[0, 0] = poles[2, -1] = 1
        poles[1, 0] = poles[3, -1] = -1
        mu = torch.cat([directions(rows, (m,), dtype, device), poles.repeat(rows // 4, 1)])
        allowed = 4 * eps + length_error(mu)  # what mu itself lacks of unit length
        for kappa in (0.0, 1e-30, 1e-3, 1.0, 50.0, 1e4, 1e8):
            z = vmf_ops.sample_vmf(mu, torch.tensor([kappa], dtype=dtype, device=device))
            assert length_error(z) <= allowed, (m, kappa)


def test_concentrated_draws_keep_their_digits():
    """At kappa = 1e8 in float32 the angle is still right: N d kappa is near chi^2, of mean N/2."""
    torch.manual_seed(7)
    for m in (2, 3, 11):
        mu = directions(50_000, (m,), torch.float32)
        z = vmf_ops.sample_vmf(mu, torch.tensor([1e8])).double()
        d = (z - mu.double()).square().sum(-1) / 2
        expected = (m - 1) / 2 / 1e8
        # d is a Gamma of shape (m-1)/2; z's own rounding adds eps^2/24 a component.
        assert (d.mean() / expected - 1).abs() < 4 * (2 / (m - 1) / 50_000) ** 0.5 + 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_bad_kappa_spoils_its_own_shell_alone(dtype, device):
    dims = (3, 2, 5, 70)
    mu = directions(9, dims, dtype, device)
    kappa = torch.full((9, 4), 3.0, dtype=dtype, device=device)
    for shell in range(4):
        kappa[2 * shell, shell] = float("nan")
        kappa[2 * shell + 1, shell] = -1.0
    bad = torch.isnan(kappa) | (kappa < 0)
    z = vmf_ops.sample_vmf(mu, kappa, dims)
    for part, spoilt in zip(z.split(dims, -1), bad.unbind(-1), strict=True):
        assert torch.equal(torch.isnan(part).any(-1), spoilt) and torch.equal(torch.isnan(part).all(-1), spoilt)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_matter(dtype):
    dims, rows = (2, 3, 5, 70), 5003
    mu, kappa = directions(rows, dims, dtype), concentrations(rows, [0.5, 3.0, 9.0, 40.0], dtype)
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 7, 64):
            torch.set_num_threads(threads)
            torch.manual_seed(8)
            leaves = mu.clone().requires_grad_(), kappa.clone().requires_grad_()
            z = vmf_ops.sample_vmf(*leaves, dims)
            seen.append((z, *torch.autograd.grad(z.sin().sum(), leaves)))
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


ISA_SCRIPT = """
import sys, torch, vmf_ops
torch.manual_seed(9)
dims = (2, 3, 4, 11, 70)
out = {}
for dtype in (torch.float32, torch.float64):
    mu = torch.cat([torch.nn.functional.normalize(torch.randn(5000, m, dtype=torch.float64), dim=-1) for m in dims], -1)
    mu = mu.to(dtype).requires_grad_()
    kappa = torch.tensor([0.3, 2.0, 9.0, 30.0, 100.0], dtype=dtype).repeat(5000, 1).requires_grad_()
    z = vmf_ops.sample_vmf(mu, kappa, dims)
    grads = torch.autograd.grad(z.sum(), (mu, kappa))
    out[str(dtype)] = [t.detach() for t in (z, *grads)]
torch.save(out, sys.stdout.buffer)
"""


def test_instruction_sets_agree_to_rounding():
    drawn = {}
    for isa in vmf_ops.build_info()["isas_compiled"]:
        result = subprocess.run([sys.executable, "-c", ISA_SCRIPT], env=os.environ | {"VMF_OPS_ISA": isa},
                                capture_output=True, check=False)  # fmt: skip
        if result.returncode and b"processor lacks" in result.stderr:
            continue
        assert result.returncode == 0, result.stderr.decode()
        drawn[isa] = torch.load(io.BytesIO(result.stdout))
    dims = (2, 3, 4, 11, 70)
    for isa in drawn:
        for dtype in DTYPES:
            z, mu_grad, kappa_grad = drawn["default"][str(dtype)]
            z_other, mu_grad_other, kappa_grad_other = drawn[isa][str(dtype)]
            eps = torch.finfo(dtype).eps
            for shell, (a, b) in enumerate(zip(z.split(dims, -1), z_other.split(dims, -1), strict=True)):
                # The tangent's normals may lie near mu, which magnifies their rounding; 1e-4 of the float32 shells
                # have an accept test within rounding.
                apart = (a - b).abs().amax(-1) > 100 * eps
                assert apart.float().mean() <= (3e-4 if dtype == torch.float32 else 0), (isa, dtype, shell)
                same = ~apart

                def near(p, q, same=same, eps=eps):
                    return torch.allclose(p[same], q[same], rtol=1e4 * eps, atol=1e4 * eps)

                assert near(kappa_grad[:, shell], kappa_grad_other[:, shell])
                assert near(mu_grad.split(dims, -1)[shell], mu_grad_other.split(dims, -1)[shell])


def test_seed_repeats_and_calls_differ(device):
    mu, kappa = directions(50, (4,), torch.float32, device), torch.tensor([3.0], device=device)

    def draw(**options):
        return vmf_ops.sample_vmf(mu, kappa, **options)

    torch.manual_seed(10)
    first, second = draw(), draw()
    torch.manual_seed(10)
    assert torch.equal(first, draw()) and torch.equal(second, draw())
    assert not torch.equal(first, second)
    generator = torch.Generator(device).manual_seed(11)
    state = torch.get_rng_state()
    first = draw(generator=generator)
    assert torch.equal(first, draw(generator=generator.manual_seed(11)))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_is_the_same_alone_and_among_others():
    """The draw of row r and shell k depends on nothing else; so an inner row repeats whatever surrounds it."""
    op = torch.ops.vmf_ops.sample_vmf
    key = torch.tensor([1234567890123])
    mu, kappa = directions(1, (2, 3, 5, 70), torch.float64)[None], torch.full((1, 1, 4), 2.0, dtype=torch.float64)
    long = op(mu, kappa, [2, 3, 5, 70], key, 1000)[0]
    short = op(mu, kappa, [2, 3, 5, 70], key, 17)[0]
    assert torch.equal(long[:, :17], short)


def philox(key, counter):
    """Philox4x32-10 of Salmon, Moraes, Dror and Shaw (2011), on arrays of counter words."""
    c = [np.asarray(word, dtype=np.uint64) for word in counter]
    low, mask = list(key), np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            b >> np.uint64(32) ^ c[1] ^ np.uint64(low[0]),
            b & mask,
            a >> np.uint64(32) ^ c[3] ^ np.uint64(low[1]),
            a & mask,
        ]
        low = [(low[0] + 0x9E3779B9) % 2**32, (low[1] + 0xBB67AE85) % 2**32]
    return c


def test_draws_are_philox_of_row_and_shell():
    """The generator gives its published answers, and a sphere's draw is the inversion of its bits."""
    assert [int(w) for w in philox((0, 0), (0, 0, 0, 0))] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert [int(w) for w in philox((ones,) * 2, (ones,) * 4)] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    key, rows, kappa = (0xA4093822, 0x299F31D0), 1000, 2.5
    mu = directions(rows, (2, 3), torch.float64)
    z = torch.ops.vmf_ops.sample_vmf(
        mu[None], torch.full((1, 1, 2), kappa, dtype=torch.float64), [2, 3], torch.tensor([key[1] << 32 | key[0]]), rows
    )[0][0, :, 2:]
    high, low, *_ = philox(key, (np.arange(rows), np.ones(rows), np.zeros(rows), np.zeros(rows)))
    q = ((high << np.uint64(32) | low) >> np.uint64(12)) * 2.0**-52 + 2.0**-53
    d = -np.log1p(q * np.expm1(-2 * kappa)) / kappa
    assert np.allclose(((z - mu[:, 2:]).square().sum(-1) / 2).numpy(force=True), d, rtol=1e-13)


def test_python_threads_draw_at_once():
    mu, kappa = directions(300, (5, 3), torch.float32), torch.full((300, 2), 4.0)
    key = torch.tensor([7])

    def draw():
        return torch.ops.vmf_ops.sample_vmf(mu[None], kappa[None], [5, 3], key, 300)[0]

    expected, same = draw(), []
    threads = [threading.Thread(target=lambda: same.append(all(torch.equal(draw(), expected) for _ in range(50))))
               for _ in range(4)]  # fmt: skip
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert same == [True] * 4


def test_shapes_broadcast():
    dims = (3, 2)
    for loc, kappa, sample, out in [
        ((5,), (2,), (), (5,)),
        ((7, 5), (2,), (), (7, 5)),
        ((5,), (7, 2), (), (7, 5)),
        ((7, 1, 5), (4, 2), (), (7, 4, 5)),
        ((1, 4, 5), (7, 1, 2), (3,), (3, 7, 4, 5)),
        ((7, 5), (7, 2), (2, 3), (2, 3, 7, 5)),
        ((0, 5), (0, 2), (3,), (3, 0, 5)),
        ((0, 5), (2,), (), (0, 5)),
        ((7, 5), (7, 2), (0,), (0, 7, 5)),
    ]:
        mu = torch.zeros(loc)
        mu[..., 0] = mu[..., 3] = 1
        leaves = mu.requires_grad_(), torch.full(kappa, 1e8, requires_grad=True)
        z = vmf_ops.sample_vmf(*leaves, dims, sample_shape=sample)
        assert z.shape == out
        # So concentrated, a draw is its mean direction: every row must have found its own.
        assert torch.allclose(z, mu.expand(out), atol=1e-2)
        grads = torch.autograd.grad(z.sum(), leaves)
        assert [g.shape for g in grads] == [loc, kappa]


def test_rows_find_their_own_parameters():
    mu = torch.nn.functional.normalize(torch.randn(3, 1, 4, dtype=torch.float64), dim=-1)
    kappa = torch.tensor([1e3, 1e8], dtype=torch.float64)[:, None]
    z = vmf_ops.sample_vmf(mu, kappa, sample_shape=(500,))
    mean_angle = angle(z, mu).mean(0)
    assert torch.all(mean_angle[:, 0] > 1e-2) and torch.all(mean_angle[:, 1] < 1e-3)


def test_strided_input():
    torch.manual_seed(12)
    wide = directions(20, (4, 4), torch.float64)
    loc, kappa = wide[::2, :4], torch.rand(3, 10, dtype=torch.float64).T[:, 1:2]
    torch.manual_seed(13)
    strided = vmf_ops.sample_vmf(loc, kappa)
    torch.manual_seed(13)
    assert torch.equal(strided, vmf_ops.sample_vmf(loc.contiguous(), kappa.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(dtype):
    mu = directions(10, (4,), dtype)
    z = vmf_ops.sample_vmf(mu, torch.full((10, 1), 5.0, dtype=dtype))
    assert z.dtype == dtype
    assert (z.float().norm(dim=-1) - mu.float().norm(dim=-1)).abs().max() < 2 * torch.finfo(dtype).eps
    assert vmf_ops.sample_vmf(mu, torch.full((10, 1), 5.0)).dtype == torch.float32


def test_autocast_keeps_the_dtype():
    mu = directions(10, (4,), torch.float32)
    with torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
        assert vmf_ops.sample_vmf(mu, torch.full((10, 1), 5.0)).dtype == torch.float32


@pytest.mark.parametrize(
    "loc, kappa, dims, error, words",
    [
        (torch.ones(4, 5), torch.ones(4, 2), (3, 3), ValueError, ["(4, 5)", "(4, 2)", "6"]),
        (torch.ones(4, 5), torch.ones(4, 3), (3, 2), ValueError, ["(4, 5)", "(4, 3)"]),
        (torch.ones(4, 5), torch.ones(4), None, ValueError, ["(4, 5)", "(4,)"]),
        (torch.ones(4, 5), torch.ones(3, 2), (3, 2), ValueError, ["(4, 5)", "(3, 2)"]),
        (torch.ones(4, 1), torch.ones(4, 1), None, ValueError, ["at least 2", "(4, 1)"]),
        (torch.ones(4, 4), torch.ones(4, 2), (3, 1), ValueError, ["at least 2", "(3, 1)"]),
        (torch.ones(()), torch.ones(1), None, ValueError, ["()", "(1,)"]),
        (torch.ones(4, 3).long(), torch.ones(4, 1), None, TypeError, ["int64", "(4, 3)", "(4, 1)"]),
        (torch.ones(4, 3), torch.ones(4, 1).long(), None, TypeError, ["int64", "(4, 3)", "(4, 1)"]),
        (torch.ones(4, 3, dtype=torch.complex64), torch.ones(4, 1), None, TypeError, ["complex64"]),
        (torch.ones(4, 3), 2.0, None, TypeError, ["float"]),
        (torch.ones(4, 3), torch.ones(4, 1), (3.0,), TypeError, ["integers"]),
    ],
)
def test_errors_name_what_came(loc, kappa, dims, error, words):
    with pytest.raises(error) as caught:
        vmf_ops.sample_vmf(loc, kappa, dims)
    assert all(word in str(caught.value) for word in words), caught.value


def test_dims_and_sample_shape_are_integers_of_any_kind():
    loc, kappa = torch.eye(5)[:1], torch.ones(1, 2)
    assert vmf_ops.sample_vmf(loc, kappa, (np.int64(3), np.int64(2))).shape == (1, 5)
    with pytest.raises(ValueError, match="-1"):
        vmf_ops.sample_vmf(loc, kappa, (3, 2), sample_shape=(-1,))


def test_rsvi_correction_names_what_came():
    loc, kappa = torch.eye(3), torch.ones(3, 1)
    z = vmf_ops.sample_vmf(loc, kappa)
    with pytest.raises(TypeError, match="float"):
        vmf_ops.rsvi_correction(1.0, z, loc, kappa)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        vmf_ops.rsvi_correction(z[:2, 0], z[:2], loc, kappa)


def test_unknown_gradient_is_refused():
    with pytest.raises(ValueError, match="reparameterized"):
        vmf_ops.sample_vmf(torch.eye(3), torch.ones(3, 1), gradient="reparameterized")
