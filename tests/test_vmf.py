"""The closed forms of vmf_ops.vmf: certified values, identities, limits, derivatives and transforms."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import vmf_ops
from vmf_ops._autograd import promote
from vmf_ops.vmf import (
    coordinate_variances,
    log_density_at_mode,
    log_sphere_area,
    mean_length_slope,
    vmf_concentration,
    vmf_entropy,
    vmf_kl_uniform,
    vmf_log_normalizer,
    vmf_mean_length,
)

pytestmark = pytest.mark.usefixtures("device")

DTYPES = [torch.float64, torch.float32]
FUNCTIONS = [vmf_mean_length, vmf_log_normalizer, vmf_entropy, vmf_kl_uniform, log_density_at_mode]
double = torch.float64


def read_table():
    with (Path(__file__).parent / "data" / "vmf.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: torch.tensor([float(row[name]) for row in rows], dtype=double) for name in rows[0]}


TABLE = read_table()
M, KAPPA = TABLE["m"].long(), TABLE["kappa"]
M_LOG_M = TABLE["m"] * TABLE["m"].log()


def inputs(device, dtype):
    return M.to(device), KAPPA.to(device, dtype)


def derivative(function, x):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    return slope


def worst(got, exact, scale, dtype, where=None):
    """Largest |error| in units of eps times scale, where the exact value is a normal number of the dtype."""
    error = (got.detach().cpu().double() - exact).abs() / (scale * torch.finfo(dtype).eps)
    kept = exact.abs() > 2 * torch.finfo(dtype).tiny
    assert not error[kept].isnan().any()
    return error[kept if where is None else kept & where].max().item()


# ---- Certified values (tests/data/vmf.csv, m 2 to 1e5, kappa 1e-8 to 1e8), in eps of the dtype ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_and_its_derivatives(device, dtype):
    m, kappa = inputs(device, dtype)
    exact = TABLE["kl"]
    value = vmf_kl_uniform(m, kappa)
    assert value.dtype == dtype
    assert worst(value, exact, exact, dtype) < 10  # log F is up to 14 times its difference with kappa A
    slope = derivative(lambda k: vmf_kl_uniform(m, k), kappa)
    assert worst(slope, TABLE["kl_slope"], TABLE["kl_slope"], dtype) < 16  # two power series of up to 70 terms each

    def kl_slope(kappa):
        return torch.autograd.grad(vmf_kl_uniform(m, kappa).sum(), kappa, create_graph=True)[0]

    # A' + kappa A'' changes sign; A'' differentiates a quotient of series: 60 eps where they are longest.
    curvature = derivative(kl_slope, kappa)
    scale = TABLE["slope"] + (TABLE["kl_curvature"] - TABLE["slope"]).abs()
    assert worst(curvature, TABLE["kl_curvature"], scale, dtype) < 100


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_length(device, dtype):
    m, kappa = inputs(device, dtype)
    exact = TABLE["mean_length"]
    assert worst(vmf_mean_length(m, kappa), exact, exact, dtype) < 3  # a quotient of sums of positive terms
    slope = derivative(lambda k: vmf_mean_length(m, k), kappa)
    assert worst(slope, TABLE["slope"], TABLE["slope"], dtype) < 16
    assert worst(mean_length_slope(m, kappa), TABLE["slope"], TABLE["slope"], dtype) < 16


@pytest.mark.parametrize("dtype", DTYPES)
def test_variances_of_a_coordinate(device, dtype):
    m, kappa = inputs(device, dtype)
    across, along = coordinate_variances(m, kappa)
    assert worst(across, TABLE["mean_length"] / KAPPA, TABLE["mean_length"] / KAPPA, dtype) < 4
    assert torch.equal(along, mean_length_slope(m, kappa))
    ends = torch.tensor([0.0, torch.finfo(dtype).tiny, torch.inf], dtype=dtype, device=device)
    across, along = coordinate_variances(5, ends)
    for variance in (across, along):
        torch.testing.assert_close(variance.cpu(), torch.tensor([0.2, 0.2, 0.0], dtype=dtype))
    if dtype == double:
        inner = torch.logspace(-2, 3, 11, dtype=double, device=device).requires_grad_()
        for part in (0, 1):
            assert torch.autograd.gradcheck(lambda k, part=part: coordinate_variances(5, k)[part], inner)


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_has_no_error_of_size_kappa(device, dtype):
    exact = TABLE["entropy"]
    assert worst(vmf_entropy(*inputs(device, dtype)), exact, 1 + exact.abs() + M_LOG_M, dtype) < 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_normalizer(device, dtype):
    m, kappa = inputs(device, dtype)
    exact = TABLE["log_normalizer"]
    scale = 1 + exact.abs() + KAPPA * TABLE["mean_length"] + M_LOG_M
    assert worst(vmf_log_normalizer(*inputs(device, dtype)), exact, scale, dtype) < 2
    slope = derivative(lambda k: vmf_log_normalizer(m, k), kappa)
    assert worst(slope, -TABLE["mean_length"], TABLE["mean_length"], dtype) < 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_density_at_mode_has_no_error_of_size_kappa(device, dtype):
    area = torch.tensor([log_sphere_area(int(m)) for m in M], dtype=double, device="cpu")
    exact = TABLE["log_peak"] - area
    m, kappa = inputs(device, dtype)
    scale = 1 + TABLE["log_peak"] + M_LOG_M
    assert worst(log_density_at_mode(*inputs(device, dtype)), exact, scale, dtype) < 4
    slope = derivative(lambda k: log_density_at_mode(m, k), kappa)
    assert worst(slope, TABLE["complement"], TABLE["complement"], dtype) < 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_concentration_inverts_mean_length(device, dtype):
    eps = torch.finfo(dtype).eps
    m, kappa = inputs(device, dtype)
    back = vmf_concentration(m, TABLE["mean_length"].to(device, dtype))
    # The second term is what half an eps in the mean length moves kappa by.
    condition = 1 + TABLE["mean_length"] / TABLE["kl_slope"]
    known = TABLE["complement"] > 16 * eps
    assert worst(back, KAPPA, KAPPA * condition, dtype, where=known) < 4
    round_trip = vmf_concentration(m, vmf_mean_length(m, kappa))
    assert worst(round_trip, KAPPA, KAPPA * condition, dtype, where=known) < 8


def test_concentration_converges_everywhere():
    kappa = torch.logspace(-3, 5, 4001, dtype=double)
    for m in (2, 2.5, 3, 4, 6, 10, 40, 1000, 100_000):
        slope = kappa * mean_length_slope(m, kappa)
        length = vmf_mean_length(m, kappa)
        error = (vmf_concentration(m, length) / kappa - 1).abs() / (1 + length / slope)
        assert error[1 - length > 1e-14].max() < 8 * torch.finfo(double).eps


@pytest.mark.parametrize("isa", ["default", "avx2", "avx512"])
def test_every_isa_holds_the_bounds(isa):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_vmf as t, torch\n"
        "for d in t.DTYPES:\n"
        "    for f in (t.test_kl_and_its_derivatives, t.test_mean_length, t.test_log_normalizer,\n"
        "              t.test_concentration_inverts_mean_length): f(torch.device('cpu'), d)"
    )
    environment = os.environ | {"VMF_OPS_ISA": isa}
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder], env=environment, capture_output=True, text=True)
    lacking = isa not in vmf_ops.build_info()["isas_compiled"] or "this processor lacks it" in done.stderr
    assert lacking or done.returncode == 0, done.stderr


# ---- Against mpmath ----

dimensions = st.one_of(st.integers(2, 12), st.integers(13, 600))
log_kappas = st.floats(-6, 3.5)


def exact_forms(m, kappa):
    with mpmath.workdps(40 + int(2 * abs(math.log10(kappa)))):
        v, x = mpmath.mpf(m) / 2 - 1, mpmath.mpf(kappa)
        scale = mpmath.besseli(v, x)
        length = mpmath.besseli(v + 1, x) / scale
        log_c = v * mpmath.log(x) - (v + 1) * mpmath.log(2 * mpmath.pi) - mpmath.log(scale)
        area = mpmath.log(2) + (v + 1) * mpmath.log(mpmath.pi) - mpmath.loggamma(v + 1)
        return [float(y) for y in (length, log_c, -log_c - x * length, x * length + log_c + area)]


@settings(max_examples=60, deadline=None)
@given(dimensions, log_kappas)
def test_closed_forms_agree_with_mpmath(m, log_kappa):
    kappa = 10**log_kappa
    length, log_c, entropy, kl = exact_forms(m, kappa)
    eps, x, size = torch.finfo(double).eps, torch.tensor(kappa, dtype=double), m * math.log(m)
    assert abs(vmf_mean_length(m, x) - length) <= 3 * eps * length
    assert abs(vmf_log_normalizer(m, x) - log_c) <= 4 * eps * (1 + abs(log_c) + kappa * length + size)
    assert abs(vmf_entropy(m, x) - entropy) <= 8 * eps * (1 + abs(entropy) + size)
    assert abs(vmf_kl_uniform(m, x) - kl) <= 10 * eps * kl


@settings(max_examples=60, deadline=None)
@given(dimensions, log_kappas, st.sampled_from(DTYPES))
def test_properties(m, log_kappa, dtype):
    kappa = torch.tensor([10**log_kappa, 1.01 * 10**log_kappa], dtype=dtype)
    eps = torch.finfo(dtype).eps
    length, kl = vmf_mean_length(m, kappa), vmf_kl_uniform(m, kappa)
    # Amos (1974): kappa/(N + sqrt(N^2 + kappa^2)), N = m/2 on the left and m/2 - 1/2 on the right, bounds A.
    lower, upper = (kappa / (n + torch.hypot(torch.full_like(kappa, n), kappa)) for n in (m / 2, m / 2 - 0.5))
    assert (length >= lower * (1 - 4 * eps)).all() and (length <= upper * (1 + 4 * eps)).all()
    assert length[0] < length[1] or length[1] > 1 - 64 * eps
    assert 0 < kl[0] < kl[1]
    # KL = kappa A - log F with log F >= kappa A / 2, as A is concave.
    assert (kl <= kappa * length / 2 * (1 + 16 * eps)).all()
    # The entropy and the divergence to the uniform law add up to the log area.
    total, area = vmf_entropy(m, kappa) + kl, log_sphere_area(m)
    assert ((total - area).abs() <= 2 * eps * (abs(area) + 2 * kl + 1)).all()


# ---- Limits, edges, shapes and dtypes ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 3, 16, 41, 512, 100_000])
def test_no_concentration_is_the_uniform_law(m, dtype):
    zero = torch.zeros((), dtype=dtype)
    area = log_sphere_area(m)
    assert vmf_mean_length(m, zero) == 0 and vmf_kl_uniform(m, zero) == 0
    for function, sign in ((vmf_entropy, 1), (vmf_log_normalizer, -1), (log_density_at_mode, -1)):
        assert function(m, zero) == torch.tensor(sign * area, dtype=dtype)
    slopes = {vmf_mean_length: 1 / m, vmf_kl_uniform: 0, vmf_entropy: 0, vmf_log_normalizer: 0, log_density_at_mode: 1}
    for function, slope in slopes.items():
        assert derivative(lambda k, f=function: f(m, k), zero) == torch.tensor(slope, dtype=dtype)
    second = torch.func.grad(torch.func.grad(lambda k: vmf_kl_uniform(m, k)))(zero)
    torch.testing.assert_close(second, torch.tensor(1 / m, dtype=dtype))
    assert vmf_concentration(m, zero) == 0
    assert derivative(lambda a: vmf_concentration(m, a), zero).item() == pytest.approx(m, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype):
    kappa = torch.tensor([0.0, math.inf, -1.0, math.nan], dtype=dtype)
    inf, nan = math.inf, math.nan
    area = log_sphere_area(5)
    expected = {
        vmf_mean_length: [0.0, 1.0, nan, nan],
        vmf_kl_uniform: [0.0, inf, nan, nan],
        vmf_entropy: [area, -inf, nan, nan],
        vmf_log_normalizer: [-area, -inf, nan, nan],
        log_density_at_mode: [-area, inf, nan, nan],
    }
    for function, values in expected.items():
        got, want = function(5, kappa), torch.tensor(values, dtype=dtype)
        torch.testing.assert_close(got, want, equal_nan=True, rtol=4 * torch.finfo(dtype).eps, atol=0)
        assert function(1.5, torch.ones((), dtype=dtype)).isnan() or function is vmf_mean_length
    length = torch.tensor([0.0, 1.0, -0.1, 1.1, nan], dtype=dtype)
    want = torch.tensor([0.0, inf, nan, nan, nan], dtype=dtype)
    torch.testing.assert_close(vmf_concentration(5, length), want, equal_nan=True)


def test_no_dimension_below_2():
    for function in FUNCTIONS:
        assert function(torch.tensor([1.0, 1.5, 2.0]), torch.tensor(0.5)).isnan().tolist() == [True, True, False]
        assert function(1.5, torch.tensor(0.5)).isnan()


def test_a_dimension_s_dtype_does_not_count():
    for function in FUNCTIONS:
        assert function(torch.tensor(3.0, dtype=torch.float64), 0.5).dtype == torch.float32


def test_slope_of_kl_at_inf_in_every_mode():
    """0, and right in single precision where A' alone underflows."""
    for kappa, expected in ((math.inf, 0.0), (1e30, 2e-30)):
        x = torch.tensor(kappa)
        kl = lambda x: vmf_ops.vmf_kl_uniform(5, x)  # noqa: E731
        y = x.clone().requires_grad_()
        slopes = [torch.autograd.grad(kl(y), y, create_graph=graph)[0].item() for graph in (False, True)]
        slopes += [torch.func.grad(kl)(x).item(), torch.func.jvp(kl, (x,), (torch.ones(()),))[1].item()]
        assert slopes == pytest.approx([expected] * 4, rel=1e-5)


def test_tiny_and_huge_concentrations_stay_finite():
    for dtype, tiny, huge in ((torch.float32, 1e-18, 1e18), (double, 1e-150, 1e200)):
        for m in (2, 3, 41, 100_000):
            kappa = torch.tensor([tiny, huge], dtype=dtype)
            for function in FUNCTIONS:
                assert function(m, kappa).isfinite().all()
            torch.testing.assert_close(vmf_mean_length(m, kappa[0]), kappa[0] / m)
            assert vmf_kl_uniform(m, kappa[0]) > 0 or kappa[0].double() ** 2 / (2 * m) < torch.finfo(dtype).tiny


@pytest.mark.parametrize("function", FUNCTIONS + [vmf_concentration])
def test_dtype_is_that_of_kappa(function):
    x = torch.tensor([0.25, 0.5])
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for m in (5, 5.0, torch.tensor(5), torch.tensor([5], dtype=torch.int32), torch.tensor(5.0, dtype=double)):
            assert function(m, x.to(dtype)).dtype == dtype
        single = function(5, x.to(dtype).float())
        assert dtype.itemsize > 2 or torch.equal(function(5, x.to(dtype)), single.to(dtype))
    assert function(5, 0.5).dtype == torch.get_default_dtype()
    assert function(torch.tensor(5), torch.tensor([0, 1])).dtype == torch.get_default_dtype()
    with torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
        assert function(5, x).dtype == torch.float32


@pytest.mark.parametrize("function", FUNCTIONS + [vmf_concentration])
def test_broadcasting(function):
    m = torch.tensor([16, 11, 5, 4, 3, 2])
    x = torch.rand(7, 6, dtype=double)
    one_by_one = torch.stack([function(int(d), x[:, k]) for k, d in enumerate(m)], -1)
    # A fixed dimension is prepared once, the rest is the same computation.
    torch.testing.assert_close(function(m, x), one_by_one, rtol=1e-15, atol=0)
    assert torch.equal(function(m[:, None], x.mT), function(m, x).mT)
    assert torch.equal(function(m, x[::2]), function(m, x)[::2])
    assert torch.equal(function(m, x[:, :1]), function(m, x[:, :1].expand(7, 6)))
    assert function(m, x[:0]).shape == (0, 6)
    assert function(3, x.to("meta")).shape == x.shape
    with pytest.raises((RuntimeError, ValueError), match="broadcast|must match"):
        function(m, x[:, :5])


@pytest.mark.parametrize("function", FUNCTIONS + [vmf_concentration])
def test_wrong_types_raise(function):
    with pytest.raises(TypeError, match="real"):
        function(3, torch.tensor(1j))
    with pytest.raises(TypeError, match="str"):
        function("3", torch.tensor(1.0))
    with pytest.raises(TypeError, match="list"):
        function(3, [1.0])


@pytest.mark.parametrize("function", FUNCTIONS + [vmf_concentration])
def test_derivative_in_the_dimension(function):
    m = torch.tensor([2.1, 3.0, 16.0, 129.0], dtype=double, requires_grad=True)
    x = torch.tensor([[0.02], [0.5], [0.97]], dtype=double)
    x = x if function is vmf_concentration else 100 * x
    assert torch.autograd.gradcheck(lambda m: function(m, x), m, check_forward_ad=True)
    (slope,) = torch.autograd.grad(function(m, x).sum(), m, create_graph=True)
    with pytest.raises(NotImplementedError, match="no such derivative"):
        torch.autograd.grad(slope.sum(), m)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("dimension", [2, 3, 20, 64, 1000])
def test_derivative_in_the_dimension_against_mpmath(dtype, kappa, dimension):
    m, x = torch.tensor(float(dimension), dtype=dtype, requires_grad=True), torch.tensor(kappa, dtype=dtype)
    with mpmath.workdps(60):
        at = mpmath.mpf(x.item())

        def bessel(v):
            return mpmath.besseli(v, at, maxterms=10**6)

        def log_c(m):
            half = m / 2
            return (half - 1) * mpmath.log(at) - half * mpmath.log(2 * mpmath.pi) - mpmath.log(bessel(half - 1))

        def length(m):
            return bessel(m / 2) / bessel(m / 2 - 1)

        def kl(m):
            return at * length(m) + log_c(m) + m / 2 * mpmath.log(mpmath.pi) + mpmath.log(2) - mpmath.loggamma(m / 2)

        step = mpmath.mpf(10) ** -20
        cases = {vmf_mean_length: length, vmf_log_normalizer: log_c, vmf_kl_uniform: kl}
        for function, exact in cases.items():
            expected = (exact(dimension + step) - exact(dimension - step)) / (2 * step)
            (slope,) = torch.autograd.grad(function(m, x), m)
            tolerance = 1e-11 if dtype == double else 1e-5
            assert abs(slope.item() - expected) <= tolerance * abs(expected), function


def test_concentration_of_a_huge_dimension():
    # kappa = m a / (1 - a^2) to rounding.
    for m, dtype in ((4e19, torch.float32), (1e38, torch.float32), (1e200, double)):
        kappa = vmf_concentration(m, torch.tensor(0.5, dtype=dtype)).item()
        assert kappa == pytest.approx(m * 0.5 / 0.75, rel=16 * torch.finfo(dtype).eps)


# ---- Derivatives and transforms ----

SHELLS = None


@pytest.fixture(autouse=True)
def shells(device):
    global SHELLS
    SHELLS = torch.tensor([16, 3, 2], device=device)


def arguments(function):
    x = torch.tensor([[0.3, 0.6, 0.9], [0.05, 0.4, 0.7]], dtype=double)
    return x if function is vmf_concentration else 40 * x


@pytest.mark.parametrize("function", FUNCTIONS + [vmf_concentration])
def test_gradcheck(function):
    x = arguments(function).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: function(SHELLS, x),
        x,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )
    assert torch.autograd.gradgradcheck(
        lambda x: function(SHELLS, x), x, check_fwd_over_rev=True, check_rev_over_rev=True
    )


@pytest.mark.parametrize("function", FUNCTIONS + [vmf_concentration])
def test_torch_func(function):
    x = arguments(function)
    slope = derivative(lambda x: function(SHELLS, x), x).detach()
    total = lambda x: function(SHELLS, x).sum()  # noqa: E731
    close = torch.testing.assert_close
    close(torch.func.grad(total)(x), slope)
    close(torch.func.jvp(lambda x: function(SHELLS, x), (x,), (torch.ones_like(x),))[1], slope)
    close(torch.func.vmap(function, (None, 0))(SHELLS, x), function(SHELLS, x))
    close(torch.func.vmap(function, (0, 1), 1)(SHELLS, x), function(SHELLS, x))
    each = lambda m, x: torch.func.grad(lambda x: function(m, x))(x)  # noqa: E731
    close(torch.func.vmap(torch.func.vmap(each), (None, 0))(SHELLS, x), slope)
    hessian = torch.func.hessian(total)(x).reshape(6, 6)
    x = x.requires_grad_()
    first = torch.autograd.grad(function(SHELLS, x).sum(), x, create_graph=True)[0]
    close(hessian, torch.diag(torch.autograd.grad(first.sum(), x)[0].flatten()))
    third = torch.func.grad(torch.func.grad(torch.func.grad(lambda x: function(3, x))))(x[0, 1].detach())
    h = 1e-4
    second = torch.func.grad(torch.func.grad(lambda x: function(3, x)))
    numeric = (second(x[0, 1].detach() + h) - second(x[0, 1].detach() - h)) / (2 * h)
    close(third, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("function", [vmf_kl_uniform, vmf_entropy, vmf_log_normalizer, vmf_concentration])
def test_compile(function):
    torch._dynamo.reset()
    x = arguments(function).requires_grad_()
    compiled = torch.compile(lambda m, x: function(m, x) * 2, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(SHELLS, x), 2 * function(SHELLS, x))
    got = torch.autograd.grad(compiled(SHELLS, x).sum(), x)[0]
    torch.testing.assert_close(got, 2 * derivative(lambda x: function(SHELLS, x), x.detach()).detach())


@pytest.mark.parametrize("m", [2, 3, 41, 512])
def test_derivative_identities(m):
    """H' = -kappa A', (log C)' = -A, (log C + kappa)' = 1 - A, and the inverse function's slope is 1/A'."""
    kappa = torch.logspace(-4, 5, 200, dtype=double)
    slope, length = mean_length_slope(m, kappa), vmf_mean_length(m, kappa)
    close = torch.testing.assert_close
    tolerance = {"rtol": 16 * torch.finfo(double).eps, "atol": 0}
    close(derivative(lambda k: vmf_entropy(m, k), kappa), -kappa * slope, **tolerance)
    close(derivative(lambda k: vmf_log_normalizer(m, k), kappa), -length, **tolerance)
    close(1 - derivative(lambda k: log_density_at_mode(m, k), kappa), length, rtol=0, atol=1e-15)
    inverse = derivative(lambda a: vmf_concentration(m, a), length)
    # A' itself changes by A''/A' times the error of the recovered kappa.
    close(inverse, 1 / slope, rtol=64 * torch.finfo(double).eps * (1 + (length / (kappa * slope)).max().item()), atol=0)


def test_log_sphere_area():
    assert log_sphere_area(2) == pytest.approx(math.log(2 * math.pi), rel=1e-15)
    assert log_sphere_area(3) == pytest.approx(math.log(4 * math.pi), rel=1e-15)
    m = torch.tensor([2, 3, 64])
    got = log_sphere_area(m)
    np.testing.assert_allclose(got.numpy(force=True), [log_sphere_area(int(d)) for d in m], rtol=1e-6)
    assert math.isnan(log_sphere_area(1)) and log_sphere_area(torch.tensor(1.0)).isnan()


def test_ops_pass_opcheck():
    ops = torch.ops.vmf_ops
    pairs = [ops.kl_uniform, ops.kl_uniform_with_slope, ops.log_f, ops.log_f_with_slope]
    for op in pairs + [ops.log_peak, ops.log_peak_with_slope, ops.concentration]:
        torch.library.opcheck(op.default, (torch.tensor([3.0, 16.0]), torch.rand(4, 2)))


def test_export_with_a_dynamic_batch():
    class Divergence(torch.nn.Module):
        def forward(self, kappa):
            return vmf_kl_uniform(SHELLS, kappa).sum(-1) + vmf_entropy(7, kappa[:, 0])

    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(Divergence(), (torch.rand(4, 3),), dynamic_shapes=shapes).module()
    kappa = 9 * torch.rand(11, 3)
    torch.testing.assert_close(exported(kappa), Divergence()(kappa))


def test_a_number_beside_a_tensor_of_a_device_stays_on_the_cpu():
    """No kernel fills a tensor with it, and the order of a dimension is no kernel either; derivatives go on from it."""
    kappa = torch.empty(5, device="meta", requires_grad=True)
    with torch.autograd.profiler.profile() as profile:
        value = vmf_ops.vmf_mean_length(3, kappa.detach())
    names = [event.name for event in profile.function_events]
    assert value.is_meta and names.count("vmf_ops::ratio") == 1
    assert promote("f", 3, kappa)[0].device.type == promote("f", 3, kappa.half())[0].device.type == "cpu"
    for function in (vmf_ops.vmf_mean_length, vmf_ops.vmf_kl_uniform, vmf_ops.vmf_log_normalizer, vmf_ops.log_iv):
        (slope,) = torch.autograd.grad(function(3, kappa).sum(), kappa, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), kappa)
        assert slope.is_meta and curvature.shape == (5,)
    # In a graph it is where the rest is.
    with FakeTensorMode():
        assert promote("f", 3, torch.empty(5, device="meta"))[0].device.type == "meta"


def test_kl_of_the_largest_concentrations():
    """float32 to its largest number, against float64: 7 eps of each."""
    m = torch.tensor([2.0, 3, 26, 500, 1e5])
    kappa = torch.tensor([1e19, 1e25, 1e33, 1e35, 1e37, torch.finfo(torch.float32).max]).unsqueeze(-1)
    single, double = vmf_ops.vmf_kl_uniform(m, kappa), vmf_ops.vmf_kl_uniform(m, kappa.double())
    assert ((single.double() / double - 1).abs() <= 14 * torch.finfo(torch.float32).eps).all()
