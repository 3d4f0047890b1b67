"""The PTX that nvcc makes of the CUDA kernels, executed for the launches of the real launchers, held to the CPU's ops.

Memory is checked at each access (cuda_on_ptx/memory.py). Instructions that only approximate are taken as exact, and as
off by an ulp (or by the error that the PTX ISA allows) to either side: no result may hang on it.
"""

import pytest
import torch
from cuda_on_host import build
from cuda_on_host.launchers import (
    COSINE_OPS,
    DTYPES,
    OPS,
    Draw,
    cosine,
    divergence,
    elementwise,
    layouts,
    ops,
    special_draws,
)
from cuda_on_ptx import nvcc
from cuda_on_ptx.device import Device

pytestmark = pytest.mark.skipif(nvcc.find() is None, reason="no nvcc")
SAMPLING = {"sample_vmf", "sample_vmf_backward", "sample_vmf_forward_ad"}
OFF = (0, -1, 1)  # which way approximations err


def test_every_op_of_a_gpu_is_executed_here():
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("vmf_ops::")]
    on_cuda = {name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")}
    assert {name.removeprefix("vmf_ops::") for name in on_cuda} == SAMPLING | set(OPS) | set(COSINE_OPS) | {
        "vmf_divergence"
    }


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


# eps of a result's size. Of the order's slope, against Arb, 37 (float32: 13) were measured of the CPU's and 36 (10) of
# this: the Debye expansion and the series are both at their ends where v is small and s about where they meet.
PROMISED = {"ratio_curvature": 512, "ratio_order_slope": 40}


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
    # A number in the host's memory, of which the arguments make one method or several.
    _, x = points(op, dtype, 300)
    inputs += [(torch.tensor(order, dtype=dtype), x, None) for order in (2.5, 40.0, torch.nan)]
    device, done = Device(), []
    for v, x, off in inputs:
        outputs = [device.output(torch.broadcast_shapes(v.shape, x.shape), dtype) for _ in range(2)]
        order = v if off is None else device.place(v)
        elementwise(build.launches(), op, order, device.place(x), outputs, v_number=off is None)
        device.collect(off or 0)
        done.append((v, x, outputs))
    device.run()
    for v, x, outputs in done:
        check_values(op, v, x, outputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", COSINE_OPS)
def test_the_law_of_the_cosine_is_the_cpus(op, dtype):
    """Of the same nodes and exponents, to 5 eps (in double precision, where the quantile's iteration ends, 41); w
    itself, which is 1 less the number that is computed, to as much of 1."""
    generator = torch.Generator().manual_seed(0)
    uniform = [torch.rand(400, generator=generator, dtype=torch.float64) for _ in range(3)]
    m, kappa = (2 + 60 * uniform[0]).round(), 10 ** (5 * uniform[1] - 2)
    w = uniform[2] if op == "cosine_quantile" else 2 * uniform[2] - 1
    ends = torch.tensor([-1, 0, 1, 2, torch.inf, torch.nan], dtype=torch.float64)
    m, kappa, w = (
        torch.cat(pair).to(dtype) for pair in zip((m, kappa, w), torch.cartesian_prod(ends, ends, ends).T, strict=True)
    )
    device, done = Device(), []
    for off in OFF:
        inputs = [t if off == 0 else t[:400] for t in (m, kappa, w)]  # edges are exact alone
        outputs = [device.output(inputs[0].shape, dtype) for _ in range(4)]
        cosine(build.launches(), op, *map(device.place, inputs), outputs)
        device.collect(off)
        done.append((outputs, getattr(ops, op)(*inputs)))
    device.run()
    bound = (8 if dtype == torch.float32 else 128) * torch.finfo(dtype).eps
    for outputs, expected in done:
        for o, (ours, cpu) in enumerate(zip(outputs, expected, strict=False)):
            atol = bound if op == "cosine_quantile" and o == 0 else 0
            torch.testing.assert_close(ours, cpu, rtol=bound, atol=atol, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_divergence_is_the_cpus(dtype):
    """Near and far concentrations and every edge, of a dimension for each, for each place of a row, and for all."""
    generator = torch.Generator().manual_seed(0)
    u = [torch.rand(999, generator=generator, dtype=torch.float64) for _ in range(4)]
    p = 10 ** (8 * u[0] - 3)
    q = p * torch.where(u[1] < 0.5, 10 ** (2 * u[1] - 0.5), 10 ** (8 * u[1] - 6))
    distance, m = 4 * u[2], (2 + 10 ** (4 * u[3])).round()
    ends = torch.tensor([-1, 0, 1e-30, 1, 1e30, torch.inf, torch.nan], dtype=torch.float64)
    dimensions, apart = (torch.tensor(t, dtype=torch.float64) for t in ([1, 2, 1e6, torch.nan], [0, 1]))
    edges = torch.cartesian_prod(dimensions, ends, ends, apart).T
    p, q, distance, m = (
        torch.cat([t, e.double()]).to(dtype) for t, e in zip((p, q, distance, m), (*edges[1:], edges[0]), strict=True)
    )
    same = 1e-12
    device, done = Device(), []
    for dimensions, off in ((m, 0), (m, 1), (m, -1), (m[:13], 0), (m[:1].squeeze(0), None)):
        outputs = [device.output(p.shape, dtype) for _ in range(4)]
        inputs = [device.place(t) for t in (p, q, distance)]
        number = off is None
        divergence(build.launches(), dimensions if number else device.place(dimensions), *inputs, same, outputs, number)
        device.collect(off or 0)
        done.append((dimensions, outputs))
    device.run()
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for dimensions, outputs in done:
        expected = ops.vmf_divergence(dimensions, p, q, distance, same)
        # The divergence is a sum of positive terms, right to 20 eps; its slopes are differences of two parts, of which
        # one is what remains at one mean direction.
        parts = ops.vmf_divergence(dimensions, p, q, torch.zeros_like(p), same)
        for ours, cpu, part in zip(outputs, expected, parts, strict=True):
            assert torch.equal(ours.isnan(), cpu.isnan())
            infinite = ours.isinf() | cpu.isinf()
            assert torch.equal(ours[infinite], cpu[infinite])
            bound = 40 * eps * (cpu.double().abs() + part.double().abs()) + tiny
            assert ((ours - cpu).double().abs() <= bound)[~infinite & ~ours.isnan()].all()


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
    z, cosine = Draw(SHORT, dtype).sample(build.launches(), device.place, device.output, keep_cosine=False)
    device.collect()
    device.run()
    # Only of the shells that a second launch draws is the cosine written where nobody asks for it.
    assert [part.isnan().all().item() for part in cosine.unbind(2)] == [
        m <= (16 if dtype == torch.float32 else 8) for m in SHORT
    ]
    assert torch.equal(z, done[1][1][0])
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
