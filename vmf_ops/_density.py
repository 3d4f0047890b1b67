r"""The log density of unit vectors under von Mises-Fisher laws, less that of the uniform law, with every digit.

    log p(z) - log u = anchor(m, κ) + κ arm

Where κ <= m/2 the anchor is the equator, -log F(κ), and the arm the cosine w = μᵀz; above it is the mode, κ - log F(κ),
and the arm w - 1 = -‖z-μ‖²/2. No term of size κ is then taken from another, neither here nor in the derivative in κ,
w - A_m(κ). An infinite κ is a point mass: inf at the mode, -inf elsewhere.
"""

import math

import torch
from torch import Tensor

from ._normalize import fused
from .vmf import log_anchor

_HALF = (torch.float16, torch.bfloat16)
# Unit vectors of float64 are split at this unit: products of two such multiples add up to a length below 1 exactly.
_UNIT = 2.0**-26
# Pairs of points and laws of fewer coordinates than this are compared coordinate by coordinate.
_FEW = 2**16


def mode_radius(dtype: torch.dtype) -> float:
    """Half the square of the distance that two roundings of one point may have, and their product in pairs."""
    return max(8 * torch.finfo(dtype).eps ** 2, 2.0**-74)


def _upcast(*tensors: Tensor):
    return [t.float() if t.dtype in _HALF else t for t in tensors]


def log_density_ratio(m: int, kappa: Tensor, value: Tensor, loc: Tensor) -> Tensor:
    """Of laws on one sphere: kappa broadcasts with the batch shapes of value and loc (..., m)."""
    if fused(kappa) and fused(value) and fused(loc) and value.dtype == loc.dtype and kappa.numel():
        # Where looking costs nothing, all κ are often of one kind.
        least, most = (extreme.item() for extreme in kappa.detach().aminmax())
        if (most <= 0.5 * m or 0.5 * m < least and most < math.inf) and not _is_pairing(value, loc):
            arm = (value * loc).sum(-1) if most <= 0.5 * m else (value - loc).square().sum(-1).mul(-0.5)
            return torch.addcmul(log_anchor(m, kappa), kappa, arm)
    given = torch.promote_types(value.dtype, loc.dtype)
    kappa, value, loc = _upcast(kappa, value, loc)
    # The largest float for inf: finite derivatives, and a right value but at the mode.
    finite = kappa.clamp_max(torch.finfo(kappa.dtype).max)
    low = finite <= 0.5 * m
    cosine, half_distance = separation(value, loc)
    arm = torch.where(low, cosine, -half_distance)
    away = half_distance > mode_radius(given)
    infinite = torch.where(away, -math.inf, math.inf)
    ratio = torch.where(kappa == math.inf, infinite, log_anchor(m, finite) + finite * arm)
    return ratio.to(given) if given in _HALF else ratio


def log_density_ratio_of_product(m: Tensor, kappa: Tensor, value: Tensor, loc: Tensor, spread) -> Tensor:
    """Of product laws: m (K,), kappa (..., K), value and loc (..., Σm); spread takes (..., K) to (..., Σm)."""
    given = torch.promote_types(value.dtype, loc.dtype)
    kappa, value, loc = _upcast(kappa, value, loc)
    finite = kappa.clamp_max(torch.finfo(kappa.dtype).max)
    low = finite <= 0.5 * m
    half_squares = 0.5 * (value - loc).square()
    arm = torch.where(spread(low), value * loc, -half_squares)
    ratio = log_anchor(m, finite).sum(-1) + (spread(finite) * arm).sum(-1)
    infinite = kappa == math.inf
    radius = mode_radius(given)
    away = (spread(infinite) & (half_squares > radius)).any(-1)
    ratio = torch.where(infinite.any(-1), torch.where(away, -math.inf, math.inf), ratio)
    return ratio.to(given) if given in _HALF else ratio


def separation(value: Tensor, loc: Tensor) -> tuple[Tensor, Tensor]:
    """zᵀμ and ‖z-μ‖²/2 = 1 - zᵀμ, each with its digits; batch shapes broadcast."""
    if _is_pairing(value, loc):
        return _by_products(value, loc)
    return (value * loc).sum(-1), 0.5 * (value - loc).square().sum(-1)


def _is_pairing(value: Tensor, loc: Tensor) -> bool:
    """Whether points and laws are paired in such a number that their coordinates had better not be paired too."""
    if value.shape == loc.shape or value.numel() * loc.numel() <= _FEW * loc.shape[-1]:
        return False
    numel = math.prod(torch.broadcast_shapes(value.shape, loc.shape))
    return numel > _FEW and numel > 4 * (value.numel() + loc.numel())


def _by_products(value: Tensor, loc: Tensor) -> tuple[Tensor, Tensor]:
    """(zᵀμ, ‖z-μ‖²/2) of all pairs by matrix products, to 1e-24 in float64: each vector is z = h + l, h a multiple of
    2^-26, and products of the first parts are exact. In chunks, which bound the memory."""
    dtype = torch.promote_types(value.dtype, loc.dtype)
    if value.numel() < loc.numel():
        value, loc = loc, value
    shape = torch.broadcast_shapes(value.shape[:-1], loc.shape[:-1])
    # Chunks along the longest axis that loc has not.
    value, loc = (t.reshape((1,) * (len(shape) + 1 - t.dim()) + t.shape) for t in (value, loc))
    axes = [d for d in range(len(shape)) if loc.shape[d] == 1] or range(len(shape))
    axis = max(axes, key=lambda d: value.shape[d])
    size, whole = max(value.shape[axis], 1), value.numel()
    rows = max(1, max(math.prod(shape) // 8, _FEW) * size // max(whole, 1))
    second = loc.split(rows, axis) if loc.shape[axis] > 1 else [loc] * -(-size // rows)
    parts = [_products(z, mu, dtype) for z, mu in zip(value.split(rows, axis), second, strict=True)]
    cosine, half_distance = zip(*parts, strict=True)
    return torch.cat(cosine, axis), torch.cat(half_distance, axis)


def _products(value: Tensor, loc: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    value, loc = value.double(), loc.double()
    value_high, loc_high = ((t * (1 / _UNIT)).round() * _UNIT for t in (value, loc))
    value_low, loc_low = value - value_high, loc - loc_high
    dot = lambda a, b: torch.einsum("...i,...i->...", a, b)  # noqa: E731
    high = dot(value_high, loc_high)
    low = dot(value_high, loc_low) + dot(value_low, loc)
    half_squares = [0.5 * dot(t, t) for t in (value_high, loc_high)]
    rest = [dot(h, t) + 0.5 * dot(t, t) for h, t in ((value_high, value_low), (loc_high, loc_low))]
    # In this order exact: a sum above 1 would be rounded.
    exact = (half_squares[0] - 0.5 * high) + (half_squares[1] - 0.5 * high)
    half_distance = exact + (rest[0] + rest[1] - low)
    return (high + low).to(dtype), half_distance.clamp_min(0).to(dtype)
