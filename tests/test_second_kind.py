"""K_v: certified values on every ISA, identities against I_v and mpmath, edges, and derivatives in every mode."""

import functools
import json
import math
import pathlib
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import vmf_ops
import vmf_ops.numpy
from vmf_ops import iv_ratio, kve, log_iv, log_kv, log_kve

double, single = torch.float64, torch.float32
inf, nan = math.inf, math.nan
FUNCTIONS = [log_kv, log_kve, kve]
each_function = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
each_dtype = pytest.mark.parametrize("dtype", [double, single])

DATA = pathlib.Path(__file__).resolve().parent / "data" / "second_kind.npz"

# ---- Certified values ----

# In eps of the dtype; backward errors E for the values, else relative. The slope in v for |v| to 2e4.
BARS = {
    "log_kv": {"float64": 3, "float32": 3},
    "log_kve": {"float64": 3, "float32": 3},
    "kve": {"float64": 4, "float32": 4},
    "d log_kv/dx": {"float64": 8, "float32": 8},
    "d log_kve/dx": {"float64": 8, "float32": 8},
    "d kve/dx, conditioned": {"float64": 4, "float32": 4},
    "d2 log_kv/dx2": {"float64": 24, "float32": 24},
    "d log_kv/dv": {"float64": 1e-12 / 2.2e-16, "float32": 1e-5 / 1.2e-7},
}


def errors(dtype):
    """name -> the error at each point of the table."""
    file = np.load(DATA)
    t = {key.split("/")[1]: file[key] for key in file if key.startswith(dtype)}
    v, x = t["v"].astype(float), t["x"].astype(float)
    limits, tv, tx = np.finfo(dtype), torch.from_numpy(t["v"]), torch.from_numpy(t["x"]).requires_grad_()
    result = {}

    def slopes(f, orders):
        out = [f(tv, tx)]
        for order in range(orders):
            out.append(torch.autograd.grad(out[-1].sum(), tx, create_graph=order + 1 < orders)[0])
        return [one.detach().double().numpy() for one in out]

    def relative(got, exact, scale=1.0):
        normal = (np.abs(exact) < limits.max) & (np.abs(exact) > limits.tiny)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.where(normal, np.abs(got - exact) / (limits.eps * np.abs(exact) * scale), 0)

    with np.errstate(over="ignore"):
        condition = 1 + np.abs(t["log_kve"]) + np.abs(v * t["dv"]) + np.abs(x * t["scaled_dx"])
        exact_kve = np.exp(t["log_kve"].astype(np.longdouble))
        value, dx, dx2 = slopes(log_kv, 2)
        scale = 1 + np.abs(t["log_kv"]) + np.abs(v * t["dv"]) + np.abs(x * t["dx"])
        result["log_kv"] = np.abs(value - t["log_kv"]) / (limits.eps * scale)
        result["d log_kv/dx"], result["d2 log_kv/dx2"] = relative(dx, t["dx"]), relative(dx2, t["dx2"])
        value, dx = slopes(log_kve, 1)
        result["log_kve"] = np.abs(value - t["log_kve"]) / (limits.eps * condition)
        result["d log_kve/dx"] = relative(dx, t["scaled_dx"])
        value, dx = slopes(kve, 1)
        # What the table's own rounding of log kve leaves of it.
        condition = condition + np.abs(t["log_kve"]) * (2.3e-16 / limits.eps)
        result["kve"] = relative(value, exact_kve, condition)
        result["d kve/dx, conditioned"] = relative(dx, exact_kve * t["scaled_dx"], 2 * condition)
    order = tv.clone().requires_grad_()
    (dv,) = torch.autograd.grad(log_kv(order, tx.detach()).sum(), order)
    dv = dv.double().numpy()
    result["d log_kv/dv"] = np.where(v == 0, np.where(dv == 0, 0, inf), relative(dv, t["dv"]) * (v <= 2e4))
    return {name: [float(e.max()), float(v[e.argmax()]), float(x[e.argmax()])] for name, e in result.items()}


@functools.cache
def errors_on(isa):
    code = "import json, test_second_kind as t; print(json.dumps({d: t.errors(d) for d in ('float64', 'float32')}))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=reference.environment(isa),
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("isa", [isa for isa in reference.available_targets() if isa != "cuda"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BARS)
def test_error_on_the_certified_table(name, dtype, isa):
    error, v, x = errors_on(isa)[dtype][name]
    assert error <= BARS[name][dtype], f"{error:.2f} eps at v = {v!r}, x = {x!r}"


# ---- Identities ----

CASES = settings(max_examples=150, deadline=None, derandomize=True)
ORDERS = st.one_of(st.just(0.0), st.floats(1e-6, 60.0), st.integers(0, 80).map(lambda n: n / 2))
ARGUMENTS = st.floats(-8.0, 5.0).map(lambda e: 10.0**e)


@CASES
@given(ORDERS, ARGUMENTS, st.sampled_from([double, single]))
def test_agrees_with_mpmath(v, x, dtype):
    tv, tx = torch.tensor(v, dtype=dtype), torch.tensor(x, dtype=dtype)
    v, x, eps = float(tv), float(tx), torch.finfo(dtype).eps
    with mpmath.workdps(40):
        value, above = mpmath.besselk(v, x), mpmath.besselk(v + 1, x)
        exact = mpmath.log(value)
        condition = 1 + abs(exact) + v * mpmath.asinh(v / mpmath.mpf(x)) + x * above / value
        assert abs(log_kv(tv, tx).item() - exact) <= 3 * eps * condition
        assert abs(log_kve(tv, tx).item() - (exact + x)) <= 3 * eps * (condition + abs(exact + x))


@CASES
@given(ORDERS, ARGUMENTS)
def test_wronskian(v, x):
    """I_v K_{v+1} + I_{v+1} K_v = 1/x (DLMF 10.28.2), each product in logarithms."""
    tx = torch.tensor(x, dtype=double)
    first, second = log_iv(v, tx) + log_kv(v + 1, tx), log_iv(v + 1, tx) + log_kv(v, tx)
    size = 4 + 2 * (log_iv(v, tx).abs() + log_kv(v + 1, tx).abs() + x + v).item() + 2 * v * math.asinh((v + 1) / x)
    assert abs((first.exp() + second.exp()).item() * x - 1) <= 6 * torch.finfo(double).eps * size


@CASES
@given(ORDERS, ARGUMENTS)
def test_turan_bound(v, x):
    """K_v^2 < K_{v-1} K_{v+1}: log K is convex in v."""
    tx = torch.tensor(x, dtype=double)
    below, middle, above = (log_kv(v + k, tx).item() for k in (-1, 0, 1))
    assert 2 * middle <= below + above + 16e-16 * (1 + abs(middle) + x + v * math.asinh(v / x))


@each_dtype
def test_half_orders_are_elementary(dtype):
    """e^x K_{1/2} = sqrt(pi/2x), e^x K_{3/2} = sqrt(pi/2x) (1 + 1/x) (DLMF 10.39.2)."""
    x = torch.logspace(-20, 9, 200, dtype=double).to(dtype)
    wide, eps = x.double(), torch.finfo(dtype).eps
    half = 0.5 * (math.pi / 2 / wide).log()
    for v, exact in (
        (0.5, half),
        (-0.5, half),
        (1.5, half + torch.log1p(1 / wide)),
        (-1.5, half + torch.log1p(1 / wide)),
    ):
        assert ((log_kve(v, x).double() - exact).abs() <= 3 * eps * (2 + 2 * exact.abs() + abs(v))).all()


@each_dtype
def test_the_order_s_slope_is_odd_and_vanishes_at_zero(dtype):
    v = torch.tensor([0.0, 1e-6, 0.3, 7.0, 300.0], dtype=dtype)
    for x in (0.01, 0.7, 3.0, 9.0, 20.0, 500.0):
        x = torch.tensor(x, dtype=dtype)
        slopes = [torch.func.vmap(torch.func.grad(lambda v, x=x: log_kv(v, x)))(sign * v) for sign in (1, -1)]
        assert torch.equal(slopes[0], -slopes[1]) and slopes[0][0] == 0 and (slopes[0].diff() > 0).all()
        assert torch.equal(log_kv(v, x), log_kv(-v, x))


# ---- Edges ----


@each_dtype
def test_edges(dtype):
    def check(f, cases):
        v, x, expected = torch.tensor(cases, dtype=dtype).T
        torch.testing.assert_close(f(v, x), expected, rtol=0, atol=0, equal_nan=True)

    outside = [(2, -1, nan), (nan, 1, nan), (2, nan, nan), (inf, inf, nan), (2, -inf, nan)]
    poles = [(0, 0, inf), (2.5, 0, inf), (-3, 0, inf), (inf, 2, inf), (-inf, 2, inf)]
    check(log_kv, [*outside, *poles, (0, inf, -inf), (3, inf, -inf)])
    check(log_kve, [*outside, *poles, (0, inf, -inf), (3, inf, -inf)])
    check(kve, [*outside, *poles, (0, inf, 0), (3, inf, 0)])
    smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    x = torch.tensor([smallest, torch.finfo(dtype).tiny], dtype=dtype)
    assert torch.allclose(log_kv(0, x).double(), (math.log(2) - x.double().log() - np.euler_gamma).log(), rtol=1e-6)
    assert torch.allclose(log_kv(3, x).double(), math.log(8) - 3 * x.double().log(), rtol=1e-6)
    large = torch.tensor([1.0, 1e7, 1e30, torch.finfo(dtype).max], dtype=dtype)
    for f in FUNCTIONS:
        assert not f(large[:, None], large).isnan().any()


def test_numpy_agrees_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    v = 60 * torch.rand(500, dtype=double, generator=generator) - 30
    x = 10 ** (8 * torch.rand(500, dtype=double, generator=generator) - 4)
    for dtype in (double, single):
        a, b = v.to(dtype), x.to(dtype)
        for name in ("log_kv", "log_kve", "kve"):
            expected = getattr(vmf_ops, name)(a, b).numpy()
            assert np.array_equal(getattr(vmf_ops.numpy, name)(a.numpy(), b.numpy()), expected)


# ---- Derivatives ----


@pytest.fixture
def points():
    v = torch.tensor([0.25, -1.0, 2.75, 9.0, 30.0], dtype=double)
    return v, torch.tensor([[0.3], [0.8], [3.0], [11.0], [40.0]], dtype=double)


@each_function
def test_derivatives(f, points):
    v, x = points
    if f is kve:  # where it is of the size that differences are taken for
        v, x = v[:3], x[2:]
    x.requires_grad_()
    modes = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(lambda x: f(v, x), x, **modes)
    assert gradgradcheck(lambda x: f(v, x), x, check_fwd_over_rev=True)
    assert gradcheck(lambda v: f(v, x.detach()), v.requires_grad_(), check_forward_ad=True)


@each_function
def test_third_derivative_is_that_of_the_second(f):
    second = torch.func.grad(torch.func.grad(lambda x: f(2.75, x)))
    for a in (0.3, 6.0, 25.0, 60.0):
        at, h = torch.tensor(a, dtype=double), 1e-4 * a
        difference = (second(at + h) - second(at - h)) / (2 * h)
        torch.testing.assert_close(torch.func.grad(second)(at), difference, rtol=2e-6, atol=1e-9)


@each_function
def test_absent_derivatives_raise(f, points):
    v, x = points
    v.requires_grad_(), x.requires_grad_()
    (slope,) = torch.autograd.grad(f(v, x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no such derivative in v"):
        torch.autograd.grad(slope.sum(), v, retain_graph=True)
    (slope,) = torch.autograd.grad(f(v, x).sum(), v, create_graph=True)
    with pytest.raises(NotImplementedError, match="no such derivative in v"):
        torch.autograd.grad(slope.sum(), v)


@each_function
def test_every_mode_gives_the_same_slope(f):
    draws = torch.rand(2, 2000, generator=torch.Generator().manual_seed(1), dtype=double)
    for dtype in (double, single):
        v, x = (30 * draws[0]).to(dtype), (10 ** (6 * draws[1] - 2)).to(dtype)
        leaf = x.clone().requires_grad_()
        value = f(v, leaf)
        assert torch.equal(value.detach(), f(v, x))
        (saved,) = torch.autograd.grad(value.sum(), leaf)
        (asked,) = torch.autograd.grad(f(v, leaf).sum(), leaf, create_graph=True)
        forward = torch.func.jvp(lambda x, v=v: f(v, x), (x,), (torch.ones_like(x),))[1]
        assert torch.equal(saved, asked) and torch.equal(saved, forward)


@each_function
def test_compiles_and_maps(f, points):
    v, x = points
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: f(v, x) * 2, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), 2 * f(v, x))
    mapped = torch.func.vmap(torch.func.vmap(f, (0, None)), (None, 0))(v, x[:, 0])
    torch.testing.assert_close(mapped, f(v, x))


def test_the_ratios_agree():
    """I_{v+1}/I_v + K_{v+1}/K_v = 1 / (x I_v K_v)."""
    v, x = torch.tensor([[0.0], [1.5], [12.0]], dtype=double), torch.tensor([0.4, 2.0, 9.0, 40.0], dtype=double)
    left = iv_ratio(v + 1, x) + (log_kv(v + 1, x) - log_kv(v, x)).exp()
    torch.testing.assert_close(left, (-log_iv(v, x) - log_kv(v, x)).exp() / x, rtol=1e-12, atol=0)
