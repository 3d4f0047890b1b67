"""The law of the cosine: certified values on every ISA, identities, derivatives in every mode, and the sampler."""

import csv
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from vmf_ops import sample_vmf, vmf_cdf, vmf_icdf, vmf_mean_length, vmf_sf

double, single = torch.float64, torch.float32
FUNCTIONS = [vmf_cdf, vmf_sf, vmf_icdf]
each_function = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
inf, nan = math.inf, math.nan

DATA = pathlib.Path(__file__).resolve().parent / "data" / "cosine.csv"


def table():
    with DATA.open() as file:
        rows = list(csv.DictReader(file))
    return {name: torch.tensor([float(row[name]) for row in rows], dtype=double) for name in rows[0]}


# What each promises: relative, in the smaller tail, whatever of it is a normal number.
BARS = {double: 1e-12, single: 1e-5}


def largest_errors(dtype):
    """name -> largest relative error on the table."""
    t = table()
    m, kappa, w = t["m"].to(dtype), t["kappa"].to(dtype).requires_grad_(), t["w"].to(dtype).requires_grad_()
    upper, normal = t["upper"] == 1, 4 * torch.finfo(dtype).tiny
    lower_tail, upper_tail = vmf_cdf(m, kappa, w), vmf_sf(m, kappa, w)
    density, kappa_slope = torch.autograd.grad(lower_tail.sum(), (w, kappa))
    got = {"tail": torch.where(upper, upper_tail, lower_tail), "density": density, "kappa_slope": kappa_slope}
    errors = {}
    for name, value in got.items():
        kept = (t[name].abs() > normal) & (t["log_tail"] > -200)
        errors[name] = ((value.detach().double() - t[name]) / t[name]).abs()[kept].max().item()
    return errors


@pytest.mark.parametrize("isa", [isa for isa in reference.available_targets() if isa != "cuda"])
def test_error_on_the_certified_table(isa):
    code = "import test_cosine as t; print([max(t.largest_errors(d).values()) <= b for d, b in t.BARS.items()])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=reference.environment(isa),
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "[True, True]", run.stdout + run.stderr


# ---- Identities, wherever hypothesis looks ----

CASES = settings(max_examples=150, deadline=None, derandomize=True)
DIMENSIONS = st.one_of(st.integers(2, 12), st.floats(0.5, 4).map(lambda e: int(10**e) + 2))
CONCENTRATIONS = st.one_of(st.just(0.0), st.floats(-6, 8).map(lambda e: 10.0**e))


def at(m, kappa, deviations):
    """A cosine so many deviations from the mean, about."""
    mu = (m - 1) / 2
    mean = kappa / (mu + math.hypot(mu, kappa))
    return math.tanh(math.atanh(min(mean, 1 - 1e-15)) + deviations / math.sqrt((1 - mean**2 + 1e-300) * (2 * mu + 1)))


@CASES
@given(DIMENSIONS, CONCENTRATIONS, st.floats(-30, 30))
def test_the_tails_add_up_and_grow(m, kappa, deviations):
    w = torch.tensor(at(m, kappa, deviations), dtype=double)
    lower, upper = vmf_cdf(m, kappa, w), vmf_sf(m, kappa, w)
    assert abs(lower + upper - 1) <= 4e-16 and 0 <= lower <= 1 and 0 <= upper <= 1
    further = w + 1e-3 * (1 - w)
    if further < 1:
        assert vmf_cdf(m, kappa, further) >= lower * (1 - 1e-12) and vmf_sf(m, kappa, further) <= upper * (1 + 1e-12)


@CASES
@given(DIMENSIONS, CONCENTRATIONS, st.floats(-60, -0.3), st.booleans(), st.sampled_from([double, single]))
def test_the_quantile_inverts(m, kappa, exponent, upper, dtype):
    p = 10.0**exponent
    q = torch.tensor(1 - p if upper else p, dtype=dtype)
    if not 0 < q < 1:
        return
    w = vmf_icdf(m, kappa, q)
    assert -1 <= w <= 1
    wide = w.double().requires_grad_()
    tail = (vmf_sf if q > 0.5 else vmf_cdf)(m, kappa, wide)
    (density,) = torch.autograd.grad(tail, wide)
    exact = 1 - q.double() if q > 0.5 else q.double()
    # What a unit in the last place of w moves the tail by, where that is not nearly everything.
    eps = torch.finfo(dtype).eps
    rounding = abs(density) * eps * abs(w).double()
    if rounding < 0.1 * exact and abs(w) < 1 - 64 * eps:
        assert abs(tail - exact) <= BARS[dtype] * exact + rounding


@CASES
@given(st.floats(1e-3, 300.0), st.floats(-0.999, 0.999))
def test_the_ordinary_sphere_is_elementary(kappa, w):
    """F(w) = (e^(kappa w) - e^-kappa) / (e^kappa - e^-kappa) at m = 3."""
    lower = math.exp(kappa * (w - 1)) * math.expm1(-kappa * (1 + w)) / math.expm1(-2 * kappa)
    got = vmf_cdf(3, kappa, torch.tensor(w, dtype=double)).item()
    assert got == pytest.approx(lower, rel=1e-12 + 4e-16 * kappa, abs=1e-300)


def test_the_circle_at_rest_is_an_arc():
    w = torch.linspace(-1, 1, 201, dtype=double)
    torch.testing.assert_close(vmf_cdf(2, 0.0, w), 1 - torch.acos(w) / math.pi, rtol=1e-13, atol=1e-16)


def test_a_fractional_dimension_at_rest_is_a_beta_law():
    from scipy.special import betainc

    w = torch.linspace(-0.999, 0.999, 97, dtype=double)
    for m in (2.001, 2.5, 3.5, 4.3, 7.7, 30.3):
        expected = torch.from_numpy(betainc((m - 1) / 2, (m - 1) / 2, ((1 + w) / 2).numpy()))
        lower = w < 0
        torch.testing.assert_close(vmf_cdf(m, 0.0, w)[lower], expected[lower], rtol=1e-10, atol=0)


# ---- Edges, shapes, dtypes ----


@pytest.mark.parametrize("dtype", [double, single])
def test_edges(dtype):
    t = lambda *values: torch.tensor(values, dtype=dtype)  # noqa: E731
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)  # noqa: E731
    for m in (2, 3, 40):
        for kappa in (0.0, 5.0, 1e8):
            close(vmf_cdf(m, kappa, t(-inf, -1.5, -1, 1, 2, inf, nan)), t(0, 0, 0, 1, 1, 1, nan))
            close(vmf_sf(m, kappa, t(-inf, -1, 1, inf)), t(1, 1, 0, 0))
            close(vmf_icdf(m, kappa, t(0, 1, -0.1, 1.1, nan)), t(-1, 1, nan, nan, nan))
    close(vmf_cdf(3, inf, t(-1, 0.999, 1)), t(0, 0, 1))
    close(vmf_icdf(3, inf, t(0.5)), t(1))
    for f in FUNCTIONS:
        assert f(t(1.9, nan, inf, 3, 3), t(1, 1, 1, -1, nan), t(0.5)).isnan().all()


@each_function
def test_shapes_and_dtypes(f):
    m, kappa, x = torch.tensor([3, 8]), torch.rand(4, 1) + 1, torch.rand(3, 1, 1)
    y = f(m, kappa, x)
    assert y.shape == (3, 4, 2) and y.dtype == single
    for i in range(3):
        torch.testing.assert_close(y[i, 2, 1], f(8, kappa[2, 0], x[i, 0, 0]), rtol=0, atol=0)
    torch.testing.assert_close(f(m, kappa.expand(4, 2).mT.contiguous().mT, x), y, rtol=0, atol=0)
    assert f(3, 2, 0.5).dtype == torch.get_default_dtype()
    assert f(torch.tensor([3.0], dtype=double), kappa, 0.5).dtype == single
    assert f(3, kappa, x.double()).dtype == double
    assert f(3, kappa.half(), x.half()).dtype == torch.float16
    assert f(3, kappa[:0], 0.5).shape == (0, 1)
    assert f(3, kappa.to("meta"), 0.5).shape == (4, 1)
    for wrong in (torch.tensor(1j), "2", None):
        with pytest.raises(TypeError, match=f.__name__):
            f(3, wrong, 0.5)
    with pytest.raises(RuntimeError):
        f(3, torch.rand(3), torch.rand(4))


# ---- Derivatives ----


@pytest.fixture
def points():
    m = torch.tensor([2.0, 3.0, 7.0, 64.0], dtype=double)
    kappa = torch.tensor([[0.3], [6.0], [90.0]], dtype=double, requires_grad=True)
    return m, kappa, torch.tensor([[0.2], [0.4], [0.8]], dtype=double, requires_grad=True)


@each_function
def test_derivatives(f, points):
    m, kappa, x = points
    modes = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(lambda kappa, x: f(m, kappa, x), (kappa, x), **modes)


@each_function
def test_absent_derivatives_raise(f, points):
    m, kappa, x = points
    (slope,) = torch.autograd.grad(f(m, kappa, x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.autograd.grad(slope.sum(), kappa)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.func.hessian(lambda x: f(5, 2.0, x))(x.detach()[0, 0])
    m.requires_grad_()
    with pytest.raises(NotImplementedError, match="no derivative in m"):
        f(m, kappa, x).sum().backward()


@each_function
def test_transforms(f, points):
    m, kappa, x = points
    (slope,) = torch.autograd.grad(f(m, kappa, x).sum(), x)
    kappa, x = kappa.detach(), x.detach()
    by_func = torch.func.grad(lambda x: f(m, kappa, x).sum())(x)
    assert torch.equal(by_func, slope)
    mapped = torch.func.vmap(torch.func.grad(lambda x, kappa: f(m, kappa, x).sum()), (0, 0))(x[:, 0], kappa[:, 0])
    torch.testing.assert_close(mapped, slope[:, 0])
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: f(m, kappa, x) * 2, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), 2 * f(m, kappa, x))
    program = torch.export.export(Wrapped(f), (m, kappa, x))
    torch.testing.assert_close(program.module()(m, kappa, x), f(m, kappa, x))


class Wrapped(torch.nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, m, kappa, x):
        return self.f(m, kappa, x)


def test_the_slope_in_kappa_is_the_sampler_s():
    """dw/dkappa at a fixed probability is what the implicit gradient of a draw's cosine is."""
    for m in (2, 3, 8, 50):
        loc = torch.eye(m, dtype=double)[:1].expand(500, m)
        kappa = torch.full((500, 1), 6.0, dtype=double, requires_grad=True)
        w = sample_vmf(loc, kappa, generator=torch.Generator().manual_seed(m))[:, 0]
        (by_draw,) = torch.autograd.grad(w.sum(), kappa)
        q = vmf_cdf(m, kappa.detach()[:, 0], w.detach())
        at_rest = kappa.detach().clone().requires_grad_()
        (by_quantile,) = torch.autograd.grad(vmf_icdf(m, at_rest[:, 0], q).sum(), at_rest)
        # The sampler's psi is good for 1e-9; q near 1 holds the upper tail to eps / (1 - q) only.
        torch.testing.assert_close(by_quantile, by_draw, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("m, kappa", [(2, 0.7), (2, 40.0), (3, 5.0), (5, 0.0), (16, 30.0), (64, 2.0), (512, 300.0)])
def test_the_sampler_follows_the_law(m, kappa):
    """Kolmogorov and Smirnov's distance at 1e6 draws: beyond 2.2 / 1000 by chance once in 8000."""
    n = 1_000_000
    rows = n // 100
    loc = torch.eye(m)[:1].expand(rows, m)
    generator = torch.Generator().manual_seed(7)
    w = torch.cat(
        [sample_vmf(loc, torch.full((rows, 1), kappa), generator=generator)[:, 0] for _ in range(100)]
    ).double()
    probability = vmf_cdf(m, kappa, w.sort().values).numpy()
    steps = np.arange(n + 1) / n
    assert max((steps[1:] - probability).max(), (probability - steps[:-1]).max()) < 2.2 / math.sqrt(n)


def test_the_mean_is_the_integral_of_the_upper_tail():
    # E[w] = int_-1^1 P(w' > w) dw - 1, by Gauss's rule.
    nodes, weights = np.polynomial.legendre.leggauss(60)
    for m, kappa in ((3, 2.0), (8, 1.0), (8, 10.0)):
        tails = vmf_sf(m, kappa, torch.from_numpy(nodes))
        mean = (tails * torch.from_numpy(weights)).sum() - 1
        torch.testing.assert_close(mean, vmf_mean_length(m, torch.tensor(kappa, dtype=double)), rtol=1e-12, atol=1e-13)
