"""The launchers of csrc/cuda called with tensors of the CPU, and the inputs that tests give them."""

import ctypes
import re

import numpy as np
import torch

import vmf_ops  # noqa: F401

from . import build

ops = torch.ops.vmf_ops
DTYPES = [torch.float32, torch.float64]


def integers(*values, kind=ctypes.c_int64):
    return (kind * max(len(values), 1))(*values)


def pointers(*tensors):
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))


def call(function, *arguments):
    """Raises RuntimeError with what the library says went wrong."""
    function.restype = ctypes.c_char_p
    message = function(*arguments)
    if message is not None:
        raise RuntimeError(message.decode())


MARGIN = 4096  # bytes


def with_margins(tensor):
    """A copy of a tensor, alike in strides and alignment; and where: an array of bytes, the first of them, how many."""
    storage = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    whole = np.zeros(storage.nbytes + 3 * MARGIN, np.uint8)
    first = MARGIN + (storage.data_ptr() - whole.ctypes.data) % 256
    moved = torch.from_numpy(whole[first : first + storage.nbytes]).view(tensor.dtype)
    moved.copy_(storage)
    return moved.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()), whole, first, storage.nbytes


class Tensors:
    """Tensors with margins, in memory that is watched: `watch(whole, first, size, writable)` of the class is told."""

    def place(self, tensor):
        """A copy of a tensor, to be read."""
        return self._add(tensor, writable=False)

    def output(self, shape, dtype):
        """A tensor to be written."""
        return self._add(torch.full(shape, torch.nan, dtype=dtype), writable=True)

    def _add(self, tensor, writable):
        moved, *where = with_margins(tensor)
        self.watch(*where, writable)
        return moved


class Host(Tensors):
    """Memory that the kernels run on the host are watched in, and the order in which the threads of a warp run."""

    def __init__(self, order=0, library=None):
        self.library = library or build.kernels()
        self.library.forget()
        self.library.set_order(order)
        self.held = []

    def watch(self, whole, first, size, writable):
        self.held.append(whole)
        begin = ctypes.c_void_p(whole.ctypes.data + first)
        self.library.watch(begin, ctypes.c_int64(size), writable, not writable)


# ---- Element-wise functions ----


def enumerators(header, enum):
    body = (build.CSRC / header).read_text().split(f"enum class {enum} {{")[1].split("}")[0]
    return re.findall(r"^  (\w+),", body, flags=re.MULTILINE)


SECOND_KIND = 1000  # from there on, the numbers of ops of the second kind
NUMBERS = {name: i for i, name in enumerate(enumerators("op.h", "Op"))}
NUMBERS |= {name: SECOND_KIND + i for i, name in enumerate(enumerators("second_kind_op.h", "SecondKindOp"))}
OPS = list(NUMBERS)
COSINE_OPS = {f"cosine_{name}": i for i, name in enumerate(enumerators("cosine_op.h", "CosineOp"))}


def cosine(library, op, m, kappa, w, outputs):
    """An op of the law of the cosine by name, into tensors of the common shape."""
    data = pointers(m, kappa, w, *outputs)
    call(library.cosine, w.dtype == torch.float64, COSINE_OPS[op], ctypes.c_int64(w.numel()), data)


def divergence(library, m, p, q, distance, same, outputs, m_number=False):
    """vmf_divergence, into four tensors of p's shape; m repeats, or is a number, which goes by value."""
    numel, in_double = ctypes.c_int64(p.numel()), p.dtype == torch.float64
    data = pointers(m, p, q, distance, *outputs)
    call(library.divergence, in_double, numel, ctypes.c_int64(m.numel()), m_number, ctypes.c_double(same), data)


def elementwise(library, op, v, x, outputs, v_number=False):
    """An op by name, into two tensors of the broadcast shape; v_number: v is one number, which goes by value."""
    shape = torch.broadcast_shapes(v.shape, x.shape)
    inputs = [t.expand((1,) * (len(shape) - t.dim()) + t.shape) for t in (v, x)]
    call(
        library.elementwise,
        x.dtype == torch.float64,
        NUMBERS[op],
        len(shape),
        integers(*(n for t in inputs for n in t.shape)),
        integers(*(n for t in inputs for n in t.stride())),
        pointers(v, x, *outputs),
        v_number,
    )


def layouts(dtype, numbers):
    """(v, x) of every memory layout that the launcher tells apart; numbers(which, *shape) makes one."""

    def v(*shape):
        return numbers(0, *shape).to(dtype)

    def x(*shape):
        return numbers(1, *shape).to(dtype)

    for n in (1, 2, 3, 4, 5, 1023, 4099):
        yield v(n), x(n)
        yield v(), x(n)
        yield v(n), x()
    yield v(2001)[1:], x(2001)[1:]  # not aligned to 16 bytes
    yield v(), x(2000)[::3]
    yield v(7), x(300, 7)  # an order per column
    yield v(300, 1), x(300, 7)
    yield v(300, 1), x(7)
    yield v(50, 60).T, x(60, 50)
    yield v(4, 1, 6), x(5, 3, 4, 9, 12)[:, 0, :, :, ::2]
    yield v(3, 1, 5, 1, 2), x(4, 1, 6, 1)
    yield v(1, 1), x(1, 1, 1)


# ---- Sampling ----


class Draw:
    """The arguments of a draw of `rows` rows in `slices` slices, and its CPU result.

    numbers: first, run and gap of the rows' numbers (csrc/draw.h).
    """

    def __init__(
        self,
        dims,
        dtype,
        slices=1,
        rows=37,
        loc_rows=None,
        kappa_rows=None,
        shared_loc=False,
        kappa=None,
        numbers=(0, 2**62, 0),
    ):
        generator = torch.Generator().manual_seed(5)
        loc_rows, kappa_rows = loc_rows or rows, kappa_rows or rows
        parts = torch.randn(1 if shared_loc else slices, loc_rows, sum(dims), generator=generator, dtype=torch.float64)
        self.loc = torch.cat([p / p.norm(dim=-1, keepdim=True) for p in parts.split(dims, -1)], -1).to(dtype)
        if kappa is None:
            kappa = 10 ** (4 * torch.rand(slices, kappa_rows, len(dims), generator=generator, dtype=torch.float64) - 1)
        self.kappa = kappa.to(dtype)
        self.key = torch.randint(2**62, (slices,), generator=generator)
        self.dims, self.dtype, self.slices, self.rows = list(dims), dtype, slices, rows
        self.numbers = numbers
        self.z, self.cosine = ops.sample_vmf(self.loc, self.kappa, self.dims, self.key, rows, numbers)
        self.z_grad = torch.randn(self.z.shape, dtype=dtype, generator=generator)
        self.loc_tangent = torch.randn(self.loc.shape, dtype=dtype, generator=generator)
        self.kappa_tangent = torch.randn(self.kappa.shape, dtype=dtype, generator=generator)

    @property
    def per_row(self):
        """The shapes of a number for each component, and for each shell, of every row."""
        return (self.slices, self.rows, sum(self.dims)), (self.slices, self.rows, len(self.dims))

    def launch(self, library, what, loc, kappa, cosine, z, *extra, flag=True):
        shape = integers(
            *(self.slices, self.rows, sum(self.dims), len(self.dims)),
            *(loc.shape[0], loc.shape[1], kappa.shape[0], kappa.shape[1]),
            *self.numbers,
        )
        data = pointers(loc, kappa, cosine, z, *extra)
        call(library.sampling, self.dtype == torch.float64, what, shape, integers(*self.dims), data, flag)

    def sample(self, library, place, output, keep_cosine=True):
        """z and cosine; place(tensor) and output(shape, dtype) make the tensors that the launchers are given."""
        z, cosine = output(self.z.shape, self.dtype), output(self.cosine.shape, self.dtype)
        self.launch(library, 0, place(self.loc), place(self.kappa), cosine, z, place(self.key), flag=keep_cosine)
        return z, cosine

    def backward(self, library, place, output, implicit=True, wanted=(True, True)):
        """The gradients in loc and in kappa, row by row, of those that are wanted."""
        made = [output(shape, self.dtype) if one else None for shape, one in zip(self.per_row, wanted, strict=True)]
        inputs = [place(t) for t in (self.loc, self.kappa, self.cosine, self.z, self.z_grad)]
        self.launch(library, 1, *inputs, *made, flag=implicit)
        return made

    def forward_ad(self, library, place, output, implicit=True):
        """The tangent of z."""
        psi, z_tangent = output(self.per_row[1], self.dtype), output(self.z.shape, self.dtype)
        inputs = (self.loc, self.kappa, self.cosine, self.z, self.loc_tangent, self.kappa_tangent)
        self.launch(library, 2, *map(place, inputs), psi, z_tangent, flag=implicit)
        return z_tangent

    def check_sample(self, z, cosine):
        """(rows that differ, rows) after asserting that no other does.

        The same counters give the same numbers: only sums of another order and elementary functions with other
        roundings differ, by some eps of the row's length; an accept test within rounding may fall the other way.
        """
        eps, different, total = torch.finfo(self.dtype).eps, 0, 0
        for k, (cpu, ours) in enumerate(zip(self.z.split(self.dims, -1), z.split(self.dims, -1), strict=True)):
            m = self.dims[k]
            far = (ours - cpu).norm(dim=-1) > 200 * eps * m**0.5
            assert torch.equal(ours.isnan(), cpu.isnan())
            different, total = different + int(far.sum()), total + far.numel()
            close = torch.isclose(cosine[:, :, k], self.cosine[:, :, k], rtol=200 * eps, atol=0, equal_nan=True)
            assert (close.all(1) | far).all()
        return different, total

    def check_backward(self, loc_grad, kappa_grad, implicit=True):
        """Dot products over a row and quadratures of 20 exponentials: 1e3 eps of the sum of their terms' sizes."""
        eps, dims = torch.finfo(self.dtype).eps, self.dims
        arguments = (self.z, self.cosine, self.loc, self.kappa, dims, implicit)
        expected = ops.sample_vmf_backward(self.z_grad, *arguments, True, True)
        sizes = torch.stack([part.norm(dim=-1) for part in self.z_grad.split(dims, -1)], -1)
        size = sizes.repeat_interleave(torch.tensor(dims), -1)
        if loc_grad is not None:
            assert torch.allclose(loc_grad / size, expected[0] / size, rtol=0, atol=1e3 * eps, equal_nan=True)
        if kappa_grad is not None:
            # |dz/dkappa| <= |psi| <= 1/(m-1), and psi of small kappa in float32 is the looser part.
            scale = sizes / (torch.tensor(dims) - 1)
            tolerance = (1e3 if self.dtype == torch.float64 else 300) * eps
            assert torch.allclose(kappa_grad / scale, expected[1] / scale, rtol=0, atol=tolerance, equal_nan=True)

    def check_forward_ad(self, z_tangent, implicit=True):
        eps = torch.finfo(self.dtype).eps
        arguments = (self.z, self.cosine, self.loc, self.kappa, self.dims, implicit)
        expected = ops.sample_vmf_forward_ad(self.loc_tangent, self.kappa_tangent, *arguments)
        largest = max(self.loc_tangent.abs().max(), self.kappa_tangent.abs().max())
        size = 1 + largest * max(self.dims) ** 0.5
        assert torch.allclose(z_tangent / size, expected / size, rtol=0, atol=1e3 * eps, equal_nan=True)


def special_draws(dtype):
    """Draws whose rows repeat, in slices and without, or are a part of a larger draw's, across 2^32; and whose
    concentrations are edges of the domain or outside."""
    yield Draw((5, 2, 70), dtype, slices=3, rows=300, loc_rows=100, kappa_rows=1, shared_loc=True)
    yield Draw((3, 6), dtype, slices=7, rows=2, loc_rows=1, kappa_rows=2)
    yield Draw((3, 2, 6, 20, 70), dtype, rows=40, numbers=(2**32 - 30, 15, 2**33))
    bad = torch.tensor([-1.0, torch.nan, 0.0, 1e8, torch.inf, 1.0], dtype=torch.float64)
    yield Draw((2, 3, 4, 64, 5, 41), dtype, kappa=bad.expand(1, 37, 6).contiguous())
