"""What the laws and the losses ask of their arguments: types, dtypes and shapes that fit each other."""

from numbers import Real

import torch
from torch import Tensor


def check_last(name: str, value: Tensor, size: int):
    """A last dimension of 1 would be broadcast without a word."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    if value.dim() < 1 or value.shape[-1] != size:
        raise ValueError(f"{name} must have shape (..., {size}), got {tuple(value.shape)}")


def as_concentration(concentration, loc: Tensor) -> Tensor:
    if not isinstance(loc, Tensor) or not loc.is_floating_point():
        given = loc.dtype if isinstance(loc, Tensor) else type(loc).__name__
        raise TypeError(f"loc must be a floating-point tensor, got {given}")
    if isinstance(concentration, Real):
        return torch.full((), concentration, dtype=loc.dtype, device=loc.device)
    if not isinstance(concentration, Tensor):
        raise TypeError(f"concentration must be a number or a tensor, got {type(concentration).__name__}")
    if concentration.dtype != loc.dtype or concentration.device != loc.device:
        raise TypeError(
            f"loc and concentration must share dtype and device, got {loc.dtype} on {loc.device} and "
            f"{concentration.dtype} on {concentration.device}"
        )
    return concentration


def common_batch_shape(loc: Tensor, concentration_shape: torch.Size) -> torch.Size:
    if loc.shape[:-1] == concentration_shape:
        return concentration_shape
    try:
        return torch.broadcast_shapes(loc.shape[:-1], concentration_shape)
    except RuntimeError:
        raise ValueError(
            f"the batch shapes of loc {tuple(loc.shape)} and of the concentration do not broadcast: "
            f"{tuple(loc.shape[:-1])} and {tuple(concentration_shape)}"
        ) from None
