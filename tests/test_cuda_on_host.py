"""The CUDA kernels without a GPU: compiled for the host, a thread as a coroutine, and held to the CPU's loops.

Every access of memory is checked: bounds, writes to inputs, reads of what nobody wrote, and races; in any order of the
threads of a warp the results are the same. The compiler's side is tests/test_cuda_on_ptx.py; what a GPU adds to both
is tested by tests/test_cuda.py, where there is one.
"""

import ctypes
import functools

import numpy as np
import pytest
import torch
from cuda_on_host import build
from cuda_on_host.launchers import (
    DTYPES,
    Draw,
    Host,
    call,
    elementwise,
    integers,
    layouts,
    ops,
    pointers,
    special_draws,
)

import vmf_ops

BACKWARDS, RANDOM = 1, 2  # orders of a warp's threads


@pytest.fixture(scope="module")
def kernels():
    return build.kernels()


def test_every_op_has_a_kernel_for_cuda():
    """And the module was imported without a driver. Vectors on a GPU are normalised by torch's own kernels."""
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("vmf_ops::")}
    assert len(names) >= 23
    for name in names - {"vmf_ops::normalize_shells", "vmf_ops::normalize_shells_backward"}:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"), name


def test_tensors_elsewhere_are_refused():
    """A kernel that is given another device's tensors says so, and a build without CUDA what to install."""
    one = torch.ones(3)
    on_cuda = functools.partial(ops.log_iv.default.redispatch, torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA))
    expected = "same device" if vmf_ops.build_info()["cuda"] else "vmf_ops was built without CUDA .* install nvcc"
    with pytest.raises(RuntimeError, match=expected):
        on_cuda(one, one)
    on_cpu = functools.partial(ops.log_iv.default.redispatch, torch._C.DispatchKeySet(torch._C.DispatchKey.CPU))
    with pytest.raises(RuntimeError, match="same device"):
        on_cpu(one, one.to("meta"))


# ---- What the checks see ----


def exchange(mistake, shared=1024, order=0):
    """out[i] = in[i ^ 1] through shared memory by the kernel of faults.cu, with a mistake."""
    library = build.faults()
    host = Host(order, library)
    values, out = host.place(torch.arange(256.0)), host.output((256,), torch.float32)
    call(library.exchange, mistake, ctypes.c_size_t(shared), pointers(values, out))
    return out


@pytest.mark.parametrize("order", [0, BACKWARDS, RANDOM])
def test_a_kernel_without_a_mistake_is_right(order):
    assert torch.equal(exchange(0, order=order), torch.arange(256.0).view(-1, 2).flip(1).flatten())


@pytest.mark.parametrize(
    "mistake, seen",
    [
        (1, "a race|nobody wrote"),  # no __syncwarp
        (2, "a race"),  # a shuffle in its place
        (3, "a read out of bounds"),
        (4, "a write out of bounds"),
        (5, "a write to an input"),
        (6, "nobody wrote"),
        (7, "two threads write one place"),
        (8, "threads of a warp part"),
        (9, "a race|nobody wrote"),  # __syncwarp between threads of two warps
        (10, "a barrier that others do not"),
    ],
)
@pytest.mark.parametrize("order", [0, BACKWARDS, RANDOM])
def test_a_mistake_in_a_kernel_is_seen(mistake, seen, order):
    with pytest.raises(RuntimeError, match=seen):
        exchange(mistake, order=order)


def test_shared_memory_is_as_large_as_the_launch_asks():
    with pytest.raises(RuntimeError, match="out of bounds"):
        exchange(0, shared=1020)
    with pytest.raises(RuntimeError, match="a GPU refuses"):
        exchange(0, shared=48 * 1024 + 1)


# ---- Sampling ----

# Every way of a row: whole in the first launch (to 16, or 8 in double precision), two to all threads of a warp, a warp
# with its room in shared memory and, above 1536 (float32) or 768, without; more shells than one launch takes.
PRODUCTS = [
    (4,),
    (63,),
    (2, 3, 4, 5, 8, 9, 12, 13, 16, 17, 32, 33, 41, 63, 64, 127, 128, 129, 300),
    (601, 20, 5),
    (1600, 3, 5),
    tuple(2 + i % 5 for i in range(70)),
]


def draws(dtype):
    for dims in PRODUCTS:
        yield Draw(dims, dtype)
    yield from special_draws(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_the_cpus_to_rounding(kernels, dtype):
    different = total = 0
    for draw in draws(dtype):
        host = Host()
        far, rows = draw.check_sample(*draw.sample(kernels, host.place, host.output))
        different, total = different + far, total + rows
    assert different <= max(1, 1e-4 * total)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implicit", [True, False])
def test_gradients_are_the_cpus_to_rounding(kernels, dtype, implicit):
    for draw in draws(dtype):
        host = Host()
        loc_grad, kappa_grad = draw.backward(kernels, host.place, host.output, implicit)
        draw.check_backward(loc_grad, kappa_grad, implicit)
        alone, _ = draw.backward(kernels, host.place, host.output, implicit, wanted=(True, False))
        assert torch.equal(alone.nan_to_num(), loc_grad.nan_to_num())
        draw.check_forward_ad(draw.forward_ad(kernels, host.place, host.output, implicit), implicit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_a_warps_threads_does_not_matter(kernels, dtype):
    """To the bit: nothing is read before its writer has come to a barrier."""
    draw = Draw((2, 3, 9, 17, 63, 64, 601, 1600), dtype, rows=5)

    def results(order):
        host = Host(order)
        return [
            *draw.sample(kernels, host.place, host.output),
            *draw.backward(kernels, host.place, host.output),
            draw.forward_ad(kernels, host.place, host.output),
        ]

    in_order = results(0)
    for order in (BACKWARDS, RANDOM):
        assert all(torch.equal(a, b) for a, b in zip(results(order), in_order, strict=True))


def test_every_thread_of_a_launch_has_its_own_place(kernels):
    """Blocks of 256 threads cover each row of each shell once by each of its lanes."""
    lanes, rows = (1, 2, 32, 4, 1, 8), 300
    out, seen = integers(0, 0, 0, 0), set()
    kernels.place(ctypes.c_int64(rows), len(lanes), integers(*lanes, kind=ctypes.c_int), ctypes.c_int64(0), 0, out)
    blocks = out[3]
    assert blocks == 2 * sum(lanes)  # two chunks of 256 rows
    for block in range(blocks):
        for thread in range(256):
            kernels.place(
                ctypes.c_int64(rows),
                len(lanes),
                integers(*lanes, kind=ctypes.c_int),
                ctypes.c_int64(block),
                thread,
                out,
            )
            assert tuple(out[:3]) not in seen and thread % lanes[out[0]] == out[2]
            seen.add(tuple(out[:3]))
    inside = {place for place in seen if place[1] < rows}
    assert inside == {(k, row, lane) for k, n in enumerate(lanes) for row in range(rows) for lane in range(n)}


def test_rows_beyond_32_bits_have_their_place(kernels):
    rows, out = 3 * 2**32, integers(0, 0, 0, 0)
    block = 5 * (rows // 256 - 1) + 4  # the last chunk's last block
    kernels.place(ctypes.c_int64(rows), 2, integers(1, 4, kind=ctypes.c_int), ctypes.c_int64(block), 255, out)
    assert tuple(out) == (1, rows - 1, 3, 5 * rows // 256)


# ---- Element-wise functions ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_values_are_the_cpus_to_rounding(kernels, dtype):
    """Every broadcast and stride; a region's long method in place of a short one changes roundings, no more."""
    eps, generator = torch.finfo(dtype).eps, torch.Generator().manual_seed(3)

    def numbers(_, *shape):
        return torch.empty(shape, dtype=torch.float64).uniform_(2.5, 90, generator=generator)

    for op in ("log_iv_with_slope", "kl_uniform_with_slope"):
        for v, x in layouts(dtype, numbers):
            host = Host()
            outputs = [host.output(torch.broadcast_shapes(v.shape, x.shape), dtype) for _ in range(2)]
            elementwise(kernels, op, host.place(v), host.place(x), outputs)
            for ours, expected in zip(outputs, getattr(ops, op)(v, x), strict=True):
                scale = (1 + v * (1 + (v / x).log().abs()) + x) if op == "log_iv_with_slope" else 1 + expected.abs()
                assert ((ours - expected).abs() <= 20 * eps * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_are_the_cpus(kernels, dtype):
    v, x = torch.cartesian_prod(*[torch.tensor([-1, 0, 0.5, 2, 1e30, torch.inf, torch.nan], dtype=dtype)] * 2).T
    host = Host()
    outputs = [host.output(v.shape, dtype) for _ in range(2)]
    elementwise(kernels, "log_iv_with_slope", host.place(v), host.place(x), outputs)
    for ours, expected in zip(outputs, ops.log_iv_with_slope(v, x), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_goes_to_a_kernel_by_value(kernels, dtype):
    """Elements are sorted if its arguments have several methods, as those of many orders are; else as one in memory."""
    host, x = Host(), torch.linspace(0.1, 90, 1023, dtype=dtype)
    for op in ("log_iv_with_slope", "kl_uniform_with_slope"):
        for number, shape in ((4.5, x.shape), (90.5, ())):
            v = torch.full(shape, number, dtype=dtype)
            by_pointer, by_value = ([host.output(x.shape, dtype) for _ in range(2)] for _ in range(2))
            elementwise(kernels, op, host.place(v), host.place(x), by_pointer)
            elementwise(kernels, op, torch.tensor(number, dtype=dtype), host.place(x), by_value, v_number=True)
            assert all(torch.equal(a, b) for a, b in zip(by_value, by_pointer, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sorted_elements_keep_their_values(kernels, dtype):
    """A value hangs neither on the elements beside it nor on how many there are: 17884 are more than a grid at once."""
    generator = torch.Generator().manual_seed(1)
    v, x = (10 ** (6 * torch.rand(17884, generator=generator, dtype=torch.float64) - 2) for _ in range(2))

    def results(op, v, x):
        host = Host(RANDOM)
        outputs = [host.output(x.shape, dtype) for _ in range(2)]
        elementwise(kernels, op, host.place(v.to(dtype)), host.place(x.to(dtype)), outputs)
        return torch.stack(outputs)

    for op, more in (("log_iv_with_slope", 0), ("kl_uniform_with_slope", 2), ("log_iv_with_slope", 1000)):
        whole, half = results(op, v + more, x), results(op, (v + more)[::2].flip(0), x[::2].flip(0))
        assert not whole.isnan().any()
        assert torch.equal(whole[:, ::2], half.flip(1))


def test_division_by_a_constant_is_exact(kernels):
    generator = np.random.default_rng(0)
    edges = [2**k + d for k in range(62) for d in (-1, 0, 1) if 2**k + d > 0]
    dividends = [0, *edges, *generator.integers(0, 2**31, 200).tolist(), *generator.integers(0, 2**62, 200).tolist()]
    divisors = [*edges, 3, 7, 10, *generator.integers(1, 2**31, 200).tolist()]
    for b in divisors:
        near = [k * b + d for k in (1, 2, 3, 1000) for d in (-1, 0, 1) if k * b + 1 < 2**62]
        for a in dividends[:: 1 + b % 3] + near:
            assert kernels.divide(a, b) == a // b, (a, b)


def test_small_division_is_exact(kernels):
    assert all(kernels.small_quotient(a, b) == a // b for b in range(1, 129) for a in range(1024))


def test_offsets_beyond_32_bits(kernels):
    """Element 2^33 + 12345 of an order per column, a fixed order and a transposed pair."""
    out, i = integers(0, 0), 2**33 + 12345
    rows, columns = 2**31, 7

    def at(v_sizes, v_strides, x_sizes, x_strides):
        rank = len(v_sizes)
        kernels.layout_at(rank, integers(*v_sizes, *x_sizes), integers(*v_strides, *x_strides), ctypes.c_int64(i), out)
        return tuple(out)

    assert at((1, columns), (0, 1), (rows, columns), (columns, 1)) == (i % columns, i)
    assert at((1, 1), (0, 0), (rows, columns), (columns, 1)) == (0, i)
    row, column = divmod(i, columns)
    assert at((rows, columns), (columns, 1), (rows, columns), (1, rows)) == (i, column * rows + row)
