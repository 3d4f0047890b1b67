"""Maximum likelihood of the von Mises-Fisher law from unit vectors, its bias correction and its standard errors."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .._autograd import transformed
from .._normalize import normalized
from .._shells import capturing
from ..vmf import (
    mean_length_curvature,
    mean_length_slope,
    vmf_concentration,
    vmf_concentration_c,
    vmf_mean_length,
)
from .constraints import off_unit
from .spherical import validation

# Below this the weighted variance of points is taken from their differences, not from their second moment.
_TIGHT = 2.0**-10


def check_points(z: Tensor, normalize: bool = False) -> Tensor:
    """z (..., n, m) as unit vectors, divided by their lengths if wanted; raises if it holds others."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError("z must be a floating-point tensor of unit vectors")
    if z.dim() < 2 or z.shape[-1] < 2 or z.shape[-2] < 1:
        raise ValueError(f"z must have shape (..., n, m) with n >= 1 and m >= 2, got {tuple(z.shape)}")
    if normalize:
        z = normalized(z, z.shape[-1:])
    if validation(None) is None:
        wide, rows = torch.promote_types(z.dtype, torch.float32), max(1, 2**18 // max(z[..., 0, :].numel(), 1))
        squares = torch.cat([part.square().sum(-1, dtype=wide) for part in z.split(rows, -2)], -1)
        off = ~(squares == squares) if normalize else off_unit(squares, z.dtype)
        if off.any():
            length = squares.sqrt()
            row = (length - 1).abs().nan_to_num(math.inf).flatten().argmax()
            index = tuple(i.item() for i in torch.unravel_index(row, length.shape))
            remedy = "" if normalize else "; normalize=True divides by them"
            raise ValueError(
                f"z must hold unit vectors, but {int(off.sum())} of {off.numel()} rows have other lengths, the worst "
                f"row {index if len(index) > 1 else index[0]} of length {length.flatten()[row].item():.9g}{remedy}"
            )
    return z


def check_weights(weights: Tensor | None, z: Tensor) -> Tensor:
    """weights >= 0 in float64, of the batch shape of both and n, for points z (..., n, m); ones if None."""
    n = z.shape[-2]
    if weights is None:
        return torch.ones(n, dtype=torch.float64, device=z.device).expand(z.shape[:-1])
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights must be a tensor, not {type(weights).__name__}")
    got = f"weights of shape {tuple(weights.shape)} beside z of shape {tuple(z.shape)}"
    if weights.dim() < 1 or weights.shape[-1] != n:
        hint = ": write weights.squeeze(-1)" if weights.shape[-2:] == (n, 1) else ""
        raise ValueError(f"{got}: weights must have shape (..., {n}), one for each point{hint}")
    try:
        shape = torch.broadcast_shapes(weights.shape, z.shape[:-1])
    except RuntimeError:
        raise ValueError(f"{got}: their batch shapes do not broadcast") from None
    if validation(None) is None and not (weights >= 0).all():
        raise ValueError("weights must be nonnegative")
    return weights.double().expand(shape)


class Moments(NamedTuple):
    """Of weighted unit vectors: what a fit is made of."""

    total: Tensor
    """sum of the weights (...)"""
    mean: Tensor
    """weighted mean (..., m)"""
    length: Tensor
    """R, the mean's length"""
    complement: Tensor
    """1 - R, with every digit of points however near each other"""


def moments(z: Tensor, weights: Tensor) -> Moments:
    """In float64. 1 - R² is the weighted variance Σ w‖z - mean‖²; 1 - R that over 1 + R."""
    total = weights.sum(-1)
    share = weights / torch.where(total > 0, total, 1).unsqueeze(-1)
    shared = share.dim() > 1 and share.shape[:-1].numel() > z.shape[:-2].numel()
    if shared and not transformed() and not torch.compiler.is_compiling() and not capturing():
        mean = _weighted_sums(share, z)
        length = torch.linalg.vector_norm(mean, dim=-1)
        variance = _weighted_squares(share, z) - length.square()
        tight = (variance < _TIGHT) & (total > 0)
        if tight.any():
            points = z.expand(share.shape[:-1] + z.shape[-2:])
            exact = torch.stack([_variance(points[i], share[i]) for i in map(tuple, tight.nonzero().tolist())])
            variance = variance.masked_scatter(tight, exact)
    else:
        mean = (share.unsqueeze(-1) * z).sum(-2)
        length = torch.linalg.vector_norm(mean, dim=-1)
        variance = _variance(z, share)
    return Moments(total, mean, length, variance.clamp_min(0) / (1 + length))


def _chunks(z: Tensor, share: Tensor):
    """Pieces of z in float64 with their weights, a quarter as many numbers as there are weights at a time."""
    size = max(1, max(share.numel() // 4, 2**16) // max(z.shape[:-2].numel() * z.shape[-1], 1))
    for points, part in zip(z.split(size, -2), share.split(size, -1), strict=True):
        yield points.double(), part


def _weighted_sums(share: Tensor, z: Tensor) -> Tensor:
    return sum(
        (part.unsqueeze(-2) @ points).squeeze(-2) if z.dim() > 2 else part @ points
        for points, part in _chunks(z, share)
    )


def _weighted_squares(share: Tensor, z: Tensor) -> Tensor:
    return sum((part * points.square().sum(-1)).sum(-1) for points, part in _chunks(z, share))


def _variance(z: Tensor, share: Tensor) -> Tensor:
    """Σ w‖z - mean‖², from differences to one of the points, which are exact where points are near each other."""
    at = share.detach().argmax(-1)[..., None, None]
    batch = share.shape[:-1]
    origin = z.expand(batch + z.shape[-2:]).gather(-2, at.expand(batch + (1, z.shape[-1]))).detach()
    mean = total = 0
    for points, part in _chunks(z, share):
        mean = mean + (part.unsqueeze(-1) * (points - origin)).sum(-2, keepdim=True)
    for points, part in _chunks(z, share):
        total = total + (part * (points - origin - mean).square().sum(-1)).sum(-1)
    return total


def maximum_likelihood(m: int, found: Moments) -> tuple[Tensor, Tensor]:
    """loc and concentration; e1 and 0 where the mean is 0."""
    none = (found.mean == 0).all(-1)
    pole = torch.nn.functional.pad(torch.zeros_like(found.mean[..., 1:]), (1, 0), value=1.0)
    loc = normalized(torch.where(none.unsqueeze(-1), pole, found.mean), (m,))
    near = found.length > 0.5
    by_length = vmf_concentration(m, torch.where(near | none, 0.0, found.length))
    by_complement = vmf_concentration_c(m, torch.where(near, found.complement, 1.0))
    return loc, torch.where(near, by_complement, by_length)


@torch.no_grad()
def unbiased_concentration(m: int, found: Moments, weights: Tensor, upper: Tensor) -> Tensor:
    """The root κ of A(κ) = R A(nRκ) in (0, upper), by bisection, 0 where nR² <= 1; less its second-order bias."""
    n, mean_length = found.total.square() / weights.square().sum(-1), 1 - found.complement
    low, high = torch.zeros_like(upper), upper
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = mean_length * vmf_mean_length(m, n * mean_length * middle) > vmf_mean_length(m, middle)
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    kappa = 0.5 * (low + high)
    excess = -mean_length_curvature(m, kappa) / (2 * (n - 1) * kappa * mean_length_slope(m, kappa).square())
    known = (n * mean_length.square() > 1) & upper.isfinite()
    return torch.where(known, kappa / (1 + excess), torch.where(upper.isinf(), upper, 0))
