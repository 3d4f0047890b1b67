"""The Bessel family against certified tables, on every ISA, and its identities and bounds against mpmath."""

import functools
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

import vmf_ops

EPS = {"float64": float(np.finfo(np.float64).eps), "float32": float(np.finfo(np.float32).eps)}

# ---- Certified tables ----

# What each function promises, in the units of reference.py: eps of the dtype, relative to what is named there.
BARS = {
    "log_iv": 3,
    "log_ive": 3,
    "ive": 4,
    "iv_ratio": 4,
    "iv_ratio_c": 8,
    "d log_iv/dx": 8,
    "d log_ive/dx": 8,
    "d iv_ratio/dx": 24,
    "d iv_ratio_c/dx": 24,
    "d2 log_iv/dx2": 24,
    # Two differentiations of the ratio by dual numbers, and the slope of that: right to 13 digits (6 in float32).
    "d2 iv_ratio/dx2": 512,
    "d3 log_iv/dx3": 512,
}


@functools.cache
def largest_errors(isa):
    return reference.largest_errors_on(isa)


@pytest.mark.parametrize("isa", reference.available_targets())
@pytest.mark.parametrize("dtype", reference.DTYPES)
@pytest.mark.parametrize("name", BARS)
def test_error_on_the_certified_table(name, dtype, isa):
    error, v, x = largest_errors(isa)[dtype][name]["all"]
    assert error <= BARS[name], f"{error:.2f} eps at v = {v!r}, x = {x!r}"


@pytest.mark.parametrize("isa", reference.available_targets())
@pytest.mark.parametrize("name", ["d log_iv/dv", "d log_ive/dv"])
def test_order_derivative_in_float64(name, isa):
    error, v, x = largest_errors(isa)["float64"][name]["1e-6 <= v <= 2e4"]
    assert error * EPS["float64"] <= 1e-12, f"{error * EPS['float64']:.2e} at v = {v!r}, x = {x!r}"


@pytest.mark.parametrize("isa", reference.available_targets())
def test_order_derivative_as_a_gradient_in_float32(isa):
    # Three digits: beyond s = 12 the expansion leaves out pi e^-2x, which shows beside the -v/x of orders near 1e-6.
    error, v, x = largest_errors(isa)["float32"]["d log_iv/dv"]["1e-6 <= v <= 2e4"]
    assert error * EPS["float32"] <= 1e-3, f"{error * EPS['float32']:.2e} at v = {v!r}, x = {x!r}"
    error, v, x = largest_errors(isa)["float32"]["d log_iv/dv, mixed"]["all"]
    assert error <= 8, f"{error:.2f} eps at v = {v!r}, x = {x!r}"


@pytest.mark.parametrize("isa", reference.available_targets())
@pytest.mark.parametrize("dtype", reference.DTYPES)
def test_order_derivative_at_order_zero_is_absolute(dtype, isa):
    # -K_0(x)/I_0(x) is exponentially small for large x, where zero is as good a gradient.
    error, _, x = largest_errors(isa)[dtype]["d log_iv/dv, mixed"]["v = 0"]
    assert error <= 8, f"{error:.2f} eps at x = {x!r}"


def test_coefficients_are_what_the_script_derives():
    script = pathlib.Path(__file__).resolve().parent.parent / "scripts" / "derive_coefficients.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


# ---- No jump where one method hands over to the next ----


def borders():
    """(v, x) with x in steps of one unit in the last place across each border of every method."""
    for dtype in (torch.float64, torch.float32):
        rings = (26.0, 32.0, 60.0) if dtype == torch.float64 else (12.0, 14.0, 28.0, 30.0)
        lines = (7.0, 8.0) if dtype == torch.float64 else (4.0,)
        for ring in rings:
            for v in (0.0, 0.25, 0.5, 1.0, 3.5, ring / 3, ring * 0.75, ring * 0.98):
                for order in (v, v + 0.5):
                    yield dtype, order, max(ring**2 - v**2, 0.0) ** 0.5
        for line in lines:
            for v in (0.0, 0.5, 2.0, 11.0):
                yield dtype, v, line


def across(x, dtype, steps=60):
    number = np.float64 if dtype == torch.float64 else np.float32
    # The rounding of x leaves the border a few steps off.
    return torch.tensor(number(x) + np.arange(-steps, steps + 1) * np.spacing(number(x)), dtype=dtype)


@pytest.mark.parametrize("name", ["log_iv", "log_ive", "iv_ratio", "iv_ratio_c"])
def test_monotone_across_borders(name):
    """The family rises or falls with x throughout; a step against it is at most the errors of its two ends."""
    function = getattr(vmf_ops, name)
    for dtype, v, x_border in borders():
        eps = torch.finfo(dtype).eps
        x = across(x_border, dtype)
        order = v + 0.5 if name.startswith("iv_ratio") else v
        y = function(order, x)
        if name == "log_ive":  # falls where v/x < 1 - r: the sign of its slope at the middle
            middle = x[len(x) // 2].clone().requires_grad_()
            rising = torch.autograd.grad(function(order, middle), middle)[0] > 0
        else:
            rising = name != "iv_ratio_c"
        against = (-y.diff() if rising else y.diff()).max()
        if name.startswith("log"):
            slope = x * vmf_ops.iv_ratio(v + 1, x) + v
            scale = 1 + y.abs() + slope + (v * torch.asinh(v / x)).abs()
        else:
            scale = y
        assert against <= 2 * BARS[name] * eps * scale.max(), (dtype, v, x_border)


# ---- Identities and bounds, wherever hypothesis looks ----

ORDERS = st.one_of(st.just(0.0), st.floats(1e-6, 300.0), st.integers(0, 400).map(lambda n: n / 2))
ARGUMENTS = st.floats(-6.0, 5.0).map(lambda e: 10.0**e)
WIDE_ORDERS = st.one_of(ORDERS, st.floats(-6.0, 6.0).map(lambda e: 10.0**e))
WIDE_ARGUMENTS = st.floats(-30.0, 10.0).map(lambda e: 10.0**e)
DTYPES = st.sampled_from([torch.float64, torch.float32])
CASES = settings(max_examples=200, deadline=None, derandomize=True)


def rounded(v, x, dtype):
    """v and x as numbers that the dtype represents."""
    v, x = (torch.tensor(a, dtype=dtype) for a in (v, x))
    return v, x, float(v), float(x)


def bessel(v, x):
    """I_v(x), with the digits that I_{-1/2} - I_{1/2} loses to cancellation."""
    with mpmath.extradps(int(min(x, 400))):
        return mpmath.besseli(v, x, maxterms=10**6)


@CASES
@given(ORDERS, ARGUMENTS, DTYPES)
def test_logarithms_agree_with_mpmath(v, x, dtype):
    tv, tx, v, x = rounded(v, x, dtype)
    eps = torch.finfo(dtype).eps
    with mpmath.workdps(50):
        current, following = bessel(v, x), bessel(v + 1, x)
        log_iv = mpmath.log(current)
        log_ive = log_iv - x
        # |v d/dv log I_v| is about v asinh(v/x); x d/dx log I_v = x r + v.
        v_slope, x_slope = v * mpmath.asinh(v / mpmath.mpf(x)), x * following / current + v
        error = abs(vmf_ops.log_iv(tv, tx).item() - log_iv)
        assert error <= 3 * eps * (1 + abs(log_iv) + v_slope + x_slope)
        error = abs(vmf_ops.log_ive(tv, tx).item() - log_ive)
        assert error <= 3 * eps * (1 + abs(log_ive) + v_slope + abs(x_slope - x))


@CASES
@given(ORDERS, ARGUMENTS, DTYPES)
def test_ratios_agree_with_mpmath(v, x, dtype):
    tv, tx, v, x = rounded(v + 0.5, x, dtype)
    eps = torch.finfo(dtype).eps
    with mpmath.workdps(50):
        below, current = bessel(mpmath.mpf(v) - 1, x), bessel(v, x)
        ratio, complement = current / below, (below - current) / below
        assert abs(vmf_ops.iv_ratio(tv, tx).item() - ratio) <= 4 * eps * ratio
        if complement > torch.finfo(dtype).tiny:
            assert abs(vmf_ops.iv_ratio_c(tv, tx).item() - complement) <= 8 * eps * complement


@CASES
@given(WIDE_ORDERS, WIDE_ARGUMENTS, DTYPES)
def test_recurrence(v, x, dtype):
    """x (I_{v-1}/I_v - I_{v+1}/I_v) = 2v (DLMF 10.29.1), for v >= 1."""
    tv, tx, v, x = rounded(v + 1, x, dtype)
    if not v < 1 / torch.finfo(dtype).eps ** 0.5:
        return  # v + 1 must be a number of the dtype to leave its order unrounded
    tv, v = tv.round(), round(v)
    below, above = x / vmf_ops.iv_ratio(tv, tx).double().item(), x * vmf_ops.iv_ratio(tv + 1, tx).double().item()
    # Four eps of each ratio.
    assert abs(below - above - 2 * v) <= 4 * torch.finfo(dtype).eps * (below + above)


@CASES
@given(WIDE_ORDERS, WIDE_ARGUMENTS, DTYPES)
def test_amos_bounds(v, x, dtype):
    """x/(v-1/2+sqrt(x^2+(v+1/2)^2)) < I_v/I_{v-1} < x/(v-1/2+sqrt(x^2+(v-1/2)^2)), v >= 1/2 (Amos 1974, eq. 9, 11)."""
    tv, tx, v, x = rounded(v + 0.5, x, dtype)
    r = vmf_ops.iv_ratio(tv, tx).item()
    with mpmath.workdps(40):
        v, x = mpmath.mpf(v), mpmath.mpf(x)
        lower = x / (v - 0.5 + mpmath.sqrt(x * x + (v + 0.5) ** 2))
        upper = x / (v - 0.5 + mpmath.sqrt(x * x + (v - 0.5) ** 2))
        error = 4 * torch.finfo(dtype).eps
        assert lower * (1 - error) <= r <= upper * (1 + error)


@CASES
@given(WIDE_ORDERS, WIDE_ARGUMENTS, DTYPES)
def test_ratio_and_complement_share_the_unit_interval(v, x, dtype):
    tv, tx, _, x = rounded(v + 0.5, x, dtype)
    r, c = vmf_ops.iv_ratio(tv, tx).double().item(), vmf_ops.iv_ratio_c(tv, tx).double().item()
    # Each end is reached only by rounding: r = 1 where 1 - r < eps, 1 - r = 0 where e^-2x underflows at v = 1/2.
    assert 0 < r <= 1 and 0 <= c <= 1
    assert abs(r + c - 1) <= torch.finfo(dtype).eps * (4 * r + 8 * c)


@CASES
@given(WIDE_ORDERS, WIDE_ARGUMENTS, DTYPES)
def test_the_logarithms_differ_by_x(v, x, dtype):
    tv, tx, v, x = rounded(v, x, dtype)
    a, b = vmf_ops.log_iv(tv, tx).double().item(), vmf_ops.log_ive(tv, tx).double().item()
    r = vmf_ops.iv_ratio(tv.double() + 1, tx.double()).item()
    # Both within their backward error; v asinh((v+1)/x) bounds the sensitivity to the order.
    scale = 2 + abs(a) + abs(b) + 2 * v * np.arcsinh((v + 1) / x) + 2 * (x * r + v) + x
    assert abs(a - b - x) <= 3 * torch.finfo(dtype).eps * scale


@CASES
@given(st.floats(1e-3, 700.0), DTYPES)
def test_order_one_half_is_elementary(x, dtype):
    """I_{1/2}(x) = sqrt(2/(pi x)) sinh x and I_{1/2}/I_{-1/2} = tanh x (DLMF 10.39.1)."""
    tx = torch.tensor(x, dtype=dtype)
    eps = torch.finfo(dtype).eps
    with mpmath.workdps(40):
        x = mpmath.mpf(tx.item())
        scaled = mpmath.sqrt(2 / (mpmath.pi * x)) * -mpmath.expm1(-2 * x) / 2
        # log e^-x I_{1/2} has sensitivity |log| + about 1 to x and at most v asinh(2/x) to the order.
        condition = 1 + abs(mpmath.log(scaled)) + mpmath.asinh(2 / x) + 1
        assert abs(vmf_ops.ive(0.5, tx).item() - scaled) <= 4 * eps * scaled * condition
        assert abs(vmf_ops.iv_ratio(0.5, tx).item() - mpmath.tanh(x)) <= 4 * eps * mpmath.tanh(x)
        complement = 2 / (mpmath.exp(2 * x) + 1)
        smallest = float(torch.finfo(dtype).tiny)
        assert abs(vmf_ops.iv_ratio_c(0.5, tx).item() - complement) <= 8 * eps * max(complement, smallest)


# ---- The edges of the domain ----

INF, NAN = float("inf"), float("nan")
EDGES = {
    "log_iv": [(0, 0, 0), (1.5, 0, -INF), (3, INF, INF), (INF, 2, -INF), (INF, INF, NAN), (-1, 1, NAN), (1, -1, NAN)],
    "log_ive": [(0, 0, 0), (1.5, 0, -INF), (3, INF, -INF), (INF, 2, -INF), (INF, INF, NAN), (-1, 1, NAN), (1, -1, NAN)],
    "ive": [(0, 0, 1), (1.5, 0, 0), (3, INF, 0), (INF, 2, 0), (INF, INF, NAN), (-1, 1, NAN), (1, -1, NAN)],
    "iv_ratio": [
        (0.5, 0, 0),
        (7, 0, 0),
        (0.5, INF, 1),
        (7, INF, 1),
        (INF, 2, 0),
        (INF, INF, NAN),
        (0.49, 1, NAN),
        (1, -1, NAN),
    ],
    "iv_ratio_c": [
        (0.5, 0, 1),
        (7, 0, 1),
        (0.5, INF, 0),
        (7, INF, 0),
        (INF, 2, 1),
        (INF, INF, NAN),
        (0.49, 1, NAN),
        (1, -1, NAN),
    ],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", EDGES)
def test_edge_values(name, dtype):
    v, x, expected = torch.tensor(EDGES[name], dtype=dtype).T
    function = getattr(vmf_ops, name)
    torch.testing.assert_close(function(v, x), expected, rtol=0, atol=0, equal_nan=True)
    v, x = torch.tensor([1.0, NAN, NAN], dtype=dtype), torch.tensor([NAN, 1.0, 0.0], dtype=dtype)
    assert function(v, x).isnan().all()


SLOPES_AT_ZERO = {  # (order, the one-sided limit as x -> 0)
    "log_iv": [(0, 0), (0.5, INF), (3, INF)],
    "log_ive": [(0, -1), (0.5, INF), (3, INF)],
    "ive": [(0, -1), (0.5, INF), (1, 0.5), (3, 0)],
    "iv_ratio": [(0.5, 1), (1, 0.5), (4, 0.125)],
    "iv_ratio_c": [(0.5, -1), (1, -0.5), (4, -0.125)],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SLOPES_AT_ZERO)
def test_slopes_at_zero_are_the_one_sided_limits(name, dtype):
    v, expected = torch.tensor(SLOPES_AT_ZERO[name], dtype=dtype).T
    x = torch.zeros_like(v).requires_grad_()
    for create_graph in (False, True):
        (slope,) = torch.autograd.grad(getattr(vmf_ops, name)(v, x).sum(), x, create_graph=create_graph)
        torch.testing.assert_close(slope.detach(), expected, rtol=0, atol=0)
    if name == "iv_ratio":  # r = x/2v - x^3/(8 v^2 (v+1)) + ...
        (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        (third,) = torch.autograd.grad(curvature.sum(), x)
        assert (curvature == 0).all()
        torch.testing.assert_close(third, -0.75 / (v**2 * (v + 1)), rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_denormal_arguments(dtype):
    """To first order I_v(x) = (x/2)^v / Gamma(v+1), down to the smallest number."""
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    x = torch.tensor([smallest, 8 * smallest, torch.finfo(dtype).tiny], dtype=dtype)
    wide = x.double()
    assert (vmf_ops.log_iv(0, x) == 0).all() and (vmf_ops.ive(0, x) == 1).all()
    for v in (0.25, 1.0, 40.0):
        expected = v * (wide.log() - np.log(2)) - torch.lgamma(torch.tensor(v + 1, dtype=torch.float64))
        scale = 1 + 3 * expected.abs() + v
        assert ((vmf_ops.log_iv(v, x).double() - expected).abs() <= 3 * torch.finfo(dtype).eps * scale).all()
        # A denormal quotient is rounded to the spacing of the denormals.
        assert ((vmf_ops.iv_ratio(v + 0.5, x).double() - wide / (2 * v + 1)).abs() <= smallest).all()
        assert (vmf_ops.iv_ratio_c(v + 0.5, x) == 1).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", EDGES)
def test_far_outside_is_finite_or_the_limit(name, dtype):
    largest = torch.finfo(dtype).max
    v, x = torch.cartesian_prod(*[torch.tensor([1.0, 1e7, 1e12, 1e30, largest], dtype=dtype)] * 2).T
    y = getattr(vmf_ops, name)(v, x)
    assert not y.isnan().any()
    if name == "log_iv":
        assert (y[x > v] > 0.99 * x[x > v] - 1).all()  # log I_v(x) -> x for x >> v
    if name.startswith("iv_ratio"):
        assert ((y >= 0) & (y <= 1)).all()
    if name.endswith("ive"):
        assert (y <= 1).all()
