"""The shells of a product side by side in one vector: their ambient dimensions, and small constants of them."""

from itertools import groupby
from numbers import Integral

import torch
from torch import Tensor


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


_constants: dict = {}


def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A 1-d tensor of these values, kept: a fresh one would be copied to the device at every call.

    The first call of its kind does copy, which the capture of a CUDA graph forbids: so does torch ask for a warm-up.
    """
    # Under a mode like FakeTensorMode, tensors are that mode's own. Filled, not copied: a compiled graph then holds no
    # tensor of the CPU, which would keep it from being a CUDA graph.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
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
