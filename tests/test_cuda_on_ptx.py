"""The PTX that nvcc makes of the CUDA kernels, executed for the launches of the real launchers, held to the CPU's ops.

Memory is checked at each access (cuda_on_ptx/memory.py). Instructions that only approximate are taken as exact, and as
off by an ulp (or by the error that the PTX ISA allows) to either side: no result may hang on it.
"""

import pytest
import torch
from cuda_on_host import build
from cuda_on_host.launchers import COSINE_OPS, DTYPES, OPS, Draw, cosine, elementwise, layouts, ops, special_draws
from cuda_on_ptx import nvcc
from cuda_on_ptx.device import Device

pytestmark = pytest.mark.skipif(nvcc.find() is None, reason="no nvcc")
SAMPLING = {"sample_vmf", "sample_vmf_backward", "sample_vmf_forward_ad"}
OFF = (0, -1, 1)  # which way approximations err


def test_every_op_of_a_gpu_is_executed_here():
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("vmf_ops::")]
    on_cuda = {name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")}
    assert {name.removeprefix("vmf_ops::") for name in on_cuda} == SAMPLING | set(OPS) | set(COSINE_OPS)


# ---- Element-wise functions ----

# The points of an op, from uniform numbers: (v, x) mostly, a dimension m from 2 on, or a mean length.
DIMENSIONS = ("kl_uniform", "log_f", "log_peak", "concentration")


def points(op, dtype, count):
    """(v, x) over the orders of magnitude, half of them where the methods change."""
    generator = torch.Generator().manual_seed(0)

    def uniform():
        return torch.rand(count, generator=generator, dtype=torch.float64)

    v, x = 10 ** (8 * uniform() - 3), 10 ** (9 * uniform() - 3)
    v[::3], x[1::2] = 14 * uniform()[::3], 30 * uniform()[1::2]
    if op.startswith(DIMENSIONS):
        v += 2
    if op == "log_iv_order_slope":
        v[::5] = 0.5 * uniform()[::5]
    if op.startswith("concentration"):
        x = 1 - torch.exp(-x)
    return v.to(dtype), x.to(dtype)


def edges(dtype, largest):
    info = torch.finfo(dtype)
    ends = [
        -1,
        0,
        info.tiny / 100,
        info.tiny,
        0.3,
        0.5,
        1,
        2,
        3,
        11.5,
        26,
        1e10,
        1e30,
        info.max / 4,
        torch.inf,
        torch.nan,
    ]
    ends = torch.tensor(ends + [torch.inf, torch.nan] + [info.max] * largest, dtype=dtype)
    return torch.cartesian_prod(ends, ends).T


PROMISED = {"ratio_curvature": 512, "ratio_order_slope": 128}  # eps; 2.4e-14 and 4e-6 were measured of the latter


def results(op, v, x):
    out = getattr(ops, op)(v, x)
    return out if isinstance(out, tuple) else (out,)


def sizes(op, v, x):
    """Of each result f, |f| + |v df/dv| + |x df/dx|: what a backward-stable function is right to eps of.

    The derivatives are differences of the CPU's results in float64. Logarithms are right to eps absolutely, others down
    to where float32 has denormal numbers, which a GPU's approximations take as zero.
    """
    info, step = torch.finfo(v.dtype), 1e-6
    v, x = v.double(), x.double()
    least = 1.0 if op.startswith("log") else info.tiny / info.eps
    near = [results(op, v * (1 + h), x * (1 + k)) for h, k in ((step, 0), (-step, 0), (0, step), (0, -step))]
    for o, f in enumerate(results(op, v, x)):
        slopes = [((g[o] - f) / step).abs().nan_to_num(0, 0, 0) for g in near]
        yield f.abs().nan_to_num(posinf=0) + sum(slopes) + least


def check_values(op, v, x, ours):
    """NaN and infinities where the CPU has them; else within twice what the CPU promises of a result's size."""
    bound = 2 * PROMISED.get(op, 8) * torch.finfo(v.dtype).eps
    for a, b, size in zip(ours, results(op, v, x), sizes(op, v, x), strict=False):
        assert torch.equal(a.isnan(), b.isnan())
        infinite = a.isinf() | b.isinf()
        assert torch.equal(a[infinite], b[infinite])
        assert ((a - b).double().abs() <= bound * size)[~infinite & ~a.isnan()].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_elementwise_values_are_the_cpus(op, dtype):
    """Over the domain and its edges, and in every memory layout that the launcher tells apart."""
    source = torch.stack(points(op, torch.float64, 20000))

    def numbers(which, *shape):
        return source[which, : torch.Size(shape).numel()].reshape(shape).clone()

    inputs = [(v, x, 0) for v, x in layouts(dtype, numbers)]
    for off in OFF:
        v, x = points(op, dtype, 1500)
        edge_v, edge_x = edges(dtype, largest=off == 0)  # at the largest number an ulp more is too much
        inputs.append((torch.cat([v, edge_v]), torch.cat([x, edge_x]), off))
    device, done = Device(), []
    for v, x, off in inputs:
        outputs = [device.output(torch.broadcast_shapes(v.shape, x.shape), dtype) for _ in range(2)]
        elementwise(build.launches(), op, device.place(v), device.place(x), outputs)
        device.collect(off)
        done.append((v, x, outputs))
    device.run()
    for v, x, outputs in done:
        check_values(op, v, x, outputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", COSINE_OPS)
def test_the_law_of_the_cosine_is_the_cpus(op, dtype):
    """Within twice what is promised of float32, 1e-5; in double precision both keep to 1e-11."""
    generator = torch.Generator().manual_seed(0)
    uniform = [torch.rand(400, generator=generator, dtype=torch.float64) for _ in range(3)]
    m, kappa = (2 + 60 * uniform[0]).round(), 10 ** (5 * uniform[1] - 2)
    w = uniform[2] if op == "cosine_quantile" else 2 * uniform[2] - 1
    ends = torch.tensor([-1, 0, 1, 2, torch.inf, torch.nan], dtype=torch.float64)
    m, kappa, w = (
        torch.cat(pair).to(dtype) for pair in zip((m, kappa, w), torch.cartesian_prod(ends, ends, ends).T, strict=True)
    )
    expected = getattr(ops, op)(m, kappa, w)
    device = Device()
    outputs = [device.output(w.shape, dtype) for _ in range(4)]
    cosine(build.launches(), op, *(device.place(t) for t in (m, kappa, w)), outputs)
    device.collect(0)
    device.run()
    for ours, cpu in zip(outputs, expected, strict=False):
        torch.testing.assert_close(ours, cpu, rtol=1e-11 if dtype == torch.float64 else 2e-5, atol=0, equal_nan=True)


# ---- Sampling ----

# Several shells of each kind: circles, spheres, those drawn whole by a thread, by a few threads, by a warp in registers
# and, from 513 (or 257) on, in shared memory.
EVERY_KIND = (2, 2, 3, 3, 16, 16, 17, 17, 63, 63, 64, 64, 512, 512, 513, 513, 2000, 2000)
SHORT = (2, 3, 16, 17, 63, 64, 9, 33)
MANY = tuple(2 + i % 5 for i in range(70))  # more than one launch takes
# About the ends of what a warp's room holds, in either precision.
LONG = (tuple(range(752, 770)), tuple(range(1504, 1538)))


def draws(dtype):
    """(draw, which way approximations err)."""
    for off in OFF:
        yield Draw(EVERY_KIND, dtype, rows=3), off
        yield Draw(SHORT, dtype), off
    yield Draw(MANY, dtype, rows=5), 0
    yield from ((draw, 0) for draw in special_draws(dtype))
    yield from ((Draw(dims, dtype, rows=1), 0) for dims in LONG)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_the_cpus(dtype):
    device, done, different, total = Device(), [], 0, 0
    for draw, off in draws(dtype):
        done.append((draw, draw.sample(build.launches(), device.place, device.output)))
        device.collect(off)
    device.run()
    for draw, made in done:
        far, rows = draw.check_sample(*made)
        different, total = different + far, total + rows
    assert different <= max(1, 1e-4 * total)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_the_cpus(dtype):
    device, done = Device(), []

    def add(draw, off, implicit, wanted=(True, True)):
        arguments = build.launches(), device.place, device.output, implicit
        done.append((draw.check_backward, draw.backward(*arguments, wanted), implicit))
        if wanted == (True, True):
            done.append((draw.check_forward_ad, [draw.forward_ad(*arguments)], implicit))
        device.collect(off)

    for draw, off in draws(dtype):
        add(draw, off, implicit=True)
        if draw.dims == list(SHORT):
            add(draw, off, implicit=False)
            add(draw, off, implicit=True, wanted=(True, False))
            add(draw, off, implicit=True, wanted=(False, True))
    device.run()
    for check, made, implicit in done:
        check(*made, implicit)


# KiB of shared memory of a multiprocessor, by compute capability (CUDA C++ Programming Guide, technical
# specifications). From 8.0 on each block has 1 KiB of it reserved.
SHARED_MEMORY = {75: 64, 80: 164, 86: 100, 89: 100, 90: 228, 100: 228, 120: 100}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_longest_rows_in_shared_memory_fit_every_gpu(dtype):
    """Without cudaFuncSetAttribute: a block may have 48 KiB, static and dynamic, and its parameters 4 KiB."""
    device = Device()
    for dims in LONG:
        Draw(dims, dtype, rows=1).sample(build.launches(), device.place, device.output)
    sizes = []
    for name, launch in device.collect():
        _, kernel = device.kernels[name]
        sizes.append(kernel.shared_bytes + launch.shared)
        assert len(launch.parameters) <= 4096
    assert 46 * 1024 < max(sizes) <= 48 * 1024
    for capability, most in SHARED_MEMORY.items():
        assert max(sizes) + 1024 * (capability >= 80) <= 1024 * most
