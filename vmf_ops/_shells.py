"""The shells of a product side by side in one vector: their ambient dimensions, and small constants of them."""

from itertools import accumulate, groupby
from numbers import Integral

import torch
from torch import Tensor

from ._autograd import outer_jvp
from ._compile import allow_in_graph


def check_dims(dims, name: str = "") -> tuple[int, ...]:
    """dims as a tuple of integers >= 2, at least one; `name` heads the message of an error."""
    try:
        dims = tuple(dims)
    except TypeError:
        raise TypeError(f"{name}dims must be a sequence of ambient dimensions, not {dims!r}") from None
    for m in dims:
        if type(m) is not int and (not isinstance(m, Integral) or isinstance(m, bool)):
            raise TypeError(f"{name}dims must be integers (ambient dimensions), not {dims!r}")
    if not dims or min(dims) < 2:
        raise ValueError(f"{name}dims must be ambient dimensions of at least 2, at least one of them, not {dims!r}")
    return tuple(map(int, dims))


def capturing() -> bool:
    """Whether a CUDA graph is being captured: nothing may then wait for the device or copy to it."""
    return (
        not torch.compiler.is_compiling() and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
    )


_constants: dict = {}


def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A 1-d tensor of these values, kept: a fresh one would be copied to the device at every call."""
    # Under a mode like FakeTensorMode, tensors are that mode's own, and while a CUDA graph is captured they are the
    # graph's. Filled, not copied: a graph then holds no tensor of the CPU.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or capturing():
        runs = ((value, len(list(run))) for value, run in groupby(values))
        return torch.cat([torch.full((length,), value, dtype=dtype, device=device) for value, length in runs])
    key = values, dtype, device
    kept = _constants.get(key)
    if kept is None:
        # Nor is it a level's of torch.func, which would be kept beyond its end.
        with torch.inference_mode(False), torch._C._DisableFuncTorch():
            kept = torch.tensor(values, dtype=dtype, device=device)
        if type(kept) is Tensor:  # not the stand-in of a fake or functional mode, which ends with it
            _constants[key] = kept
    return kept


def shell_of_coordinate(dims: tuple[int, ...], device: torch.device) -> Tensor:
    """The index of the shell that each coordinate of the shells side by side belongs to."""
    return constant(tuple(k for k, m in enumerate(dims) for _ in range(m)), torch.int64, device)


def _sums_of_shells(t: Tensor, dims: tuple[int, ...]) -> Tensor:
    longest = max(dims)
    if len(dims) * longest > 4 * sum(dims):  # too much room for the short ones
        return torch.stack([part.sum(-1) for part in t.split(dims, -1)], -1)
    starts = list(accumulate(dims, initial=0))
    places = tuple(
        start + i if i < m else starts[-1] for start, m in zip(starts, dims, strict=False) for i in range(longest)
    )
    padded = torch.nn.functional.pad(t, (0, 1)).index_select(-1, constant(places, torch.int64, t.device))
    return padded.unflatten(-1, (len(dims), longest)).sum(-1)


class _Sums(torch.autograd.Function):
    """Without atomic additions, forwards and backwards: the same bits each time, on a GPU too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t, dims):
        return _sums_of_shells(t, dims)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.dims = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        return repeat_by_shell(grad, ctx.dims), None

    @staticmethod
    def jvp(ctx, tangent, _):
        with outer_jvp(()):
            return sum_by_shell(tangent, ctx.dims)


class _Repeats(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(t, dims):
        return t.index_select(-1, shell_of_coordinate(dims, t.device))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.dims = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        return sum_by_shell(grad, ctx.dims), None

    @staticmethod
    def jvp(ctx, tangent, _):
        with outer_jvp(()):
            return repeat_by_shell(tangent, ctx.dims)


@allow_in_graph
def sum_by_shell(t: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The sum of each shell's coordinates, (..., K) from (..., sum of dims)."""
    return _Sums.apply(t, dims)


@allow_in_graph
def repeat_by_shell(t: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A number of each shell at each of its coordinates, (..., sum of dims) from (..., K)."""
    return _Repeats.apply(t, dims)
