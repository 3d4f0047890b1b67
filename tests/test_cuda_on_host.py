"""The CUDA kernels without a GPU: compiled for the host, a thread as a coroutine, and held to the CPU's loops.

What a GPU adds to this (its compiler, its memory, its scheduling) is tested by tests/test_cuda.py, where there is one.
"""

import ctypes
import functools
import os
import pathlib
import re
import subprocess

import numpy as np
import pytest
import torch

import vmf_ops

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = {"sampling.cu": "sampling.inc", "elementwise.cuh": "elementwise.inc"}
DTYPES = [torch.float32, torch.float64]
ops = torch.ops.vmf_ops


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """csrc/cuda as a library: launches become calls of a scheduler, the rest of the text stays as it is."""
    folder = tmp_path_factory.mktemp("cuda_on_host")
    for source, target in SOURCES.items():
        text = (ROOT / "csrc" / "cuda" / source).read_text()
        text = re.sub(
            r"(\S+)\s*<<<(.*?)>>>\((.*?)\);", r"cuda_on_host::launch(\2, [&] { \1(\3); });", text, flags=re.DOTALL
        )
        text = re.sub(r'#include "\.\./', '#include "csrc/', text)
        text = re.sub(r'#include "(?!csrc/)', '#include "csrc/cuda/', text)
        (folder / target).write_text(text)
    library = folder / "kernels.so"
    here = ROOT / "tests" / "cuda_on_host"
    compiler = os.environ.get("CXX", "c++")
    # A GPU faults where 16 bytes are not aligned: here, the process traps.
    traps = ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]
    flags = ["-std=c++20", "-O1", "-w", "-shared", "-fPIC", *traps, f"-I{here}", f"-I{folder}", f"-I{ROOT}"]
    subprocess.run([compiler, *flags, str(here / "kernels.cpp"), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.divide.restype = ctypes.c_int64
    loaded.divide.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return loaded


def integers(*values, kind=ctypes.c_int64):
    return (kind * max(len(values), 1))(*values)


def pointers(*tensors):
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))


def guarded(*shape, dtype):
    """A tensor between margins that `untouched` checks."""
    size = int(np.prod(shape))
    whole = torch.full((size + 128,), 123.0, dtype=dtype)
    return whole, whole[64 : 64 + size].view(shape)


def untouched(whole):
    return bool((whole[:64] == 123).all() and (whole[-64:] == 123).all())


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


class Draw:
    """The arguments of a draw of `rows` rows in `slices` slices, and its CPU result."""

    def __init__(self, dims, dtype, slices=1, rows=37, loc_rows=37, kappa_rows=37, shared_loc=False, kappa=None):
        generator = torch.Generator().manual_seed(5)
        parts = torch.randn(1 if shared_loc else slices, loc_rows, sum(dims), generator=generator, dtype=torch.float64)
        self.loc = torch.cat([p / p.norm(dim=-1, keepdim=True) for p in parts.split(dims, -1)], -1).to(dtype)
        if kappa is None:
            kappa = 10 ** (4 * torch.rand(slices, kappa_rows, len(dims), generator=generator, dtype=torch.float64) - 1)
        self.kappa = kappa.to(dtype)
        self.key = torch.randint(2**62, (slices,), generator=generator)
        self.dims, self.dtype, self.slices, self.rows = list(dims), dtype, slices, rows
        self.z, self.cosine = ops.sample_vmf(self.loc, self.kappa, self.dims, self.key, rows)

    def run(self, kernels, what, z, cosine, *extra, implicit=True):
        loc, kappa = self.loc, self.kappa
        shape = integers(
            *(self.slices, self.rows, sum(self.dims), len(self.dims)),
            *(loc.shape[0], loc.shape[1], kappa.shape[0], kappa.shape[1]),
        )
        data = pointers(loc, kappa, cosine, z, *extra)
        kernels.sampling(self.dtype == torch.float64, what, shape, integers(*self.dims), data, implicit)


def draws(dtype):
    for dims in PRODUCTS:
        yield Draw(dims, dtype)
    yield Draw((5, 2, 70), dtype, slices=3, rows=300, loc_rows=100, kappa_rows=1, shared_loc=True)
    yield Draw((3, 6), dtype, slices=7, rows=2, loc_rows=1, kappa_rows=2)
    bad = torch.tensor([-1.0, torch.nan, 0.0, 1e8, torch.inf, 1.0], dtype=torch.float64)
    yield Draw((2, 3, 4, 64, 5, 41), dtype, kappa=bad.expand(1, 37, 6).contiguous())


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_the_cpus_to_rounding(kernels, dtype):
    """The same counters give the same numbers: only sums of another order and elementary functions without fused
    multiplication differ, by some eps of the row's length; an accept test within rounding may fall the other way."""
    eps = torch.finfo(dtype).eps
    different = total = 0
    for draw in draws(dtype):
        whole_z, z = guarded(*draw.z.shape, dtype=dtype)
        whole_cosine, cosine = guarded(*draw.cosine.shape, dtype=dtype)
        draw.run(kernels, 0, z, cosine, draw.key)
        assert untouched(whole_z) and untouched(whole_cosine)
        cpu, ours = draw.z.split(draw.dims, -1), z.split(draw.dims, -1)
        for k, m in enumerate(draw.dims):
            far = (ours[k] - cpu[k]).norm(dim=-1) > 200 * eps * m**0.5
            assert torch.equal(ours[k].isnan(), cpu[k].isnan())
            different, total = different + int(far.sum()), total + far.numel()
            close = torch.isclose(cosine[:, :, k], draw.cosine[:, :, k], rtol=200 * eps, atol=0, equal_nan=True)
            assert (close.all(1) | far).all()
    assert different <= max(1, 1e-4 * total)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implicit", [True, False])
def test_gradients_are_the_cpus_to_rounding(kernels, dtype, implicit):
    """Dot products over a row and quadratures of 20 exponentials: 1e3 eps of the sum of their terms' sizes."""
    eps = torch.finfo(dtype).eps
    for draw in draws(dtype):
        slices, rows, dims = draw.slices, draw.rows, draw.dims
        g = torch.randn(draw.z.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
        args = (draw.z, draw.cosine, draw.loc, draw.kappa, dims, implicit)
        expected = ops.sample_vmf_backward(g, *args, True, True)
        whole_loc, loc_grad = guarded(slices, rows, sum(dims), dtype=dtype)
        whole_kappa, kappa_grad = guarded(slices, rows, len(dims), dtype=dtype)
        draw.run(kernels, 1, draw.z, draw.cosine, g, loc_grad, kappa_grad, implicit=implicit)
        assert untouched(whole_loc) and untouched(whole_kappa)
        sizes = torch.stack([part.norm(dim=-1) for part in g.split(dims, -1)], -1)
        size = sizes.repeat_interleave(torch.tensor(dims), -1)
        assert torch.allclose(loc_grad / size, expected[0] / size, rtol=0, atol=1e3 * eps, equal_nan=True)
        # |dz/dkappa| <= |psi| <= 1/(m-1), and psi of small kappa in float32 is the looser part.
        scale = sizes / (torch.tensor(dims) - 1)
        tolerance = (1e3 if dtype == torch.float64 else 300) * eps
        assert torch.allclose(kappa_grad / scale, expected[1] / scale, rtol=0, atol=tolerance, equal_nan=True)
        # One gradient alone.
        _, alone = guarded(slices, rows, sum(dims), dtype=dtype)
        draw.run(kernels, 1, draw.z, draw.cosine, g, alone, None, implicit=implicit)
        assert torch.equal(alone.nan_to_num(), loc_grad.nan_to_num())
        # Forward mode.
        loc_tangent, kappa_tangent = torch.randn_like(draw.loc), torch.randn_like(draw.kappa)
        expected = ops.sample_vmf_forward_ad(loc_tangent, kappa_tangent, *args)
        whole, tangent = guarded(slices, rows, sum(dims), dtype=dtype)
        room = torch.empty(slices, rows, len(dims), dtype=dtype)
        draw.run(kernels, 2, draw.z, draw.cosine, loc_tangent, kappa_tangent, room, tangent, implicit=implicit)
        assert untouched(whole)
        size = 1 + max(loc_tangent.abs().max(), kappa_tangent.abs().max()) * max(dims) ** 0.5
        assert torch.allclose(tangent / size, expected / size, rtol=0, atol=1e3 * eps, equal_nan=True)


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


def run_elementwise(kernels, what, v, x):
    shape = torch.broadcast_shapes(v.shape, x.shape)
    rank = len(shape)
    inputs = [t.reshape((1,) * (rank - t.dim()) + t.shape) if t.dim() < rank else t for t in (v, x)]
    outputs = [guarded(*shape, dtype=x.dtype) for _ in range(2)]
    # Outputs are allocations of their own on a GPU, aligned to 16 bytes as these are not by chance alone.
    assert all(t.data_ptr() % 16 == 0 for _, t in outputs)
    kernels.elementwise(
        x.dtype == torch.float64,
        what,
        rank,
        integers(*(n for t in inputs for n in t.shape)),
        integers(*(n for t in inputs for n in t.stride())),
        pointers(v, x, *(t for _, t in outputs)),
    )
    assert all(untouched(whole) for whole, _ in outputs)
    return [t for _, t in outputs]


def pairs(dtype):
    """(v, x) of every memory layout that the launcher tells apart."""

    def numbers(*shape):
        return torch.empty(shape, dtype=dtype).uniform_(2.5, 90, generator=generator)

    generator = torch.Generator().manual_seed(3)
    for n in (1, 2, 3, 4, 5, 1023, 4099):
        yield numbers(n), numbers(n)
        yield numbers(), numbers(n)
        yield numbers(n), numbers()
    yield numbers(2001)[1:], numbers(2001)[1:]  # not aligned to 16 bytes
    yield numbers(), numbers(2000)[::3]
    yield numbers(7), numbers(300, 7)  # an order per column
    yield numbers(300, 1), numbers(300, 7)
    yield numbers(300, 1), numbers(7)
    yield numbers(50, 60).T, numbers(60, 50)
    yield numbers(4, 1, 6), numbers(5, 3, 4, 9, 12)[:, 0, :, :, ::2]
    yield numbers(3, 1, 5, 1, 2), numbers(4, 1, 6, 1)
    yield numbers(1, 1), numbers(1, 1, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_values_are_the_cpus_to_rounding(kernels, dtype):
    """Every broadcast and stride; a region's long method in place of a short one changes roundings, no more."""
    eps = torch.finfo(dtype).eps
    for what, cpu in ((0, ops.log_iv_with_slope), (1, ops.kl_uniform_with_slope)):
        for v, x in pairs(dtype):
            for ours, expected in zip(run_elementwise(kernels, what, v, x), cpu(v, x), strict=True):
                scale = (1 + v * (1 + (v / x).log().abs()) + x) if what == 0 else 1 + expected.abs()
                assert ((ours - expected).abs() <= 20 * eps * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_are_the_cpus(kernels, dtype):
    v, x = torch.cartesian_prod(*[torch.tensor([-1, 0, 0.5, 2, 1e30, torch.inf, torch.nan], dtype=dtype)] * 2).T
    for ours, expected in zip(run_elementwise(kernels, 0, v, x), ops.log_iv_with_slope(v, x), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-5, equal_nan=True)


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
