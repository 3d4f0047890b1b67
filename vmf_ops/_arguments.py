"""What the laws and the losses ask of their arguments: types, dtypes and shapes that fit each other."""

import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor


def check_last(name: str, value: Tensor, size: int):
    """A last dimension of 1 would be broadcast without a word."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    if value.dim() < 1 or value.shape[-1] != size:
        raise ValueError(f"{name} must have shape (..., {size}), got {tuple(value.shape)}")


def _as_tensor(name: str, value, like) -> Tensor:
    """Numbers, lists and arrays as tensors; only arrays have a dtype of their own."""
    if isinstance(value, Tensor):
        return value
    like = like if isinstance(like, Tensor) else None
    if isinstance(value, Real):
        return torch.tensor(float(value), dtype=like.dtype if like is not None and like.is_floating_point() else None)
    try:
        dtype = None
        if not isinstance(value, np.ndarray) and like is not None and like.is_floating_point():
            dtype = like.dtype
        return torch.as_tensor(value, dtype=dtype, device=None if like is None else like.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be numbers or a tensor, got {type(value).__name__}") from None


def as_parameters(loc, concentration) -> tuple[Tensor, Tensor]:
    """Both as tensors of one floating dtype on one device, by torch's promotion."""
    if isinstance(loc, Tensor) and loc.is_floating_point():
        if isinstance(concentration, Real):
            return loc, torch.full((), concentration, dtype=loc.dtype, device=loc.device)
        if (
            isinstance(concentration, Tensor)
            and concentration.dtype == loc.dtype
            and concentration.device == loc.device
        ):
            return loc, concentration
    loc, concentration = _as_tensor("loc", loc, concentration), _as_tensor("concentration", concentration, loc)
    for name, value in (("loc", loc), ("concentration", concentration)):
        if value.is_complex():
            raise TypeError(f"{name} must be real, got {value.dtype}")
    if concentration.device != loc.device:
        if concentration.dim() or concentration.device.type != "cpu":
            raise ValueError(f"loc and concentration must share a device, got {loc.device} and {concentration.device}")
        concentration = concentration.to(loc.device)
    # torch.result_type, which torch.compile cannot follow: a number in a tensor does not widen its like.
    dtype = torch.promote_types(loc.dtype, concentration.dtype)
    if concentration.dim() == 0 < loc.dim() and loc.is_floating_point():
        dtype = loc.dtype
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    return loc.to(dtype), concentration.to(dtype)


def refuse_kept_axis(name: str, value: Tensor, beside: str, points: Tensor):
    """An axis of 1 in the place of `points`' coordinates would be read as a batch of laws beside each row of points."""
    if value.dim() and value.shape[-1] == 1 and value.dim() >= points.dim() > 1:
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} beside {beside} of shape {tuple(points.shape)} would pair every row "
            f"of the one with every row of the other: write {name}.squeeze(-1) for one number a row, or give {beside} "
            "an axis of 1 of its own for all pairs"
        )


def refuse_all_pairs(**points: Tensor):
    """Of two tensors of points one has the batch shape of both: a mean over all pairs is asked for by expand."""
    (first, a), (second, b) = points.items()
    got = f"{first} of shape {tuple(a.shape)} and {second} of shape {tuple(b.shape)}"
    try:
        shape = torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError:
        raise ValueError(f"{got} do not broadcast") from None
    if shape not in (a.shape, b.shape):
        raise ValueError(f"{got} would be paired row by column: expand one of them to {tuple(shape)} if that is meant")


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


def sizes(sample_shape) -> torch.Size:
    """sample_shape as a torch.Size."""
    try:
        return torch.Size(sample_shape)
    except TypeError:
        raise TypeError(
            f"sample_shape must be a sequence of sizes, such as (5,) for five draws, got {sample_shape!r}"
        ) from None


def rounded(number: float, dtype: torch.dtype) -> float:
    """number, or infinity of its sign where the dtype has none so large."""
    return math.copysign(math.inf, number) if abs(number) > torch.finfo(dtype).max else number
