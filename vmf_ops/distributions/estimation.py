"""Maximum likelihood of the von Mises-Fisher law."""

import torch
from torch import Tensor

from .._normalize import normalized
from ..vmf import mean_length_curvature, mean_length_slope, vmf_concentration, vmf_mean_length
from .constraints import unit_vector
from .spherical import validation


def maximum_likelihood(z: Tensor, weights: Tensor | None, bias_correction: bool) -> tuple[Tensor, Tensor]:
    """The loc and concentration of VonMisesFisher.fit, in float64."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError("z must be a floating-point tensor of unit vectors")
    if z.dim() < 2 or z.shape[-1] < 2 or z.shape[-2] < 1:
        raise ValueError(f"z must have shape (..., n, m) with n >= 1 and m >= 2, got {tuple(z.shape)}")
    validated = validation(None) is None
    if validated and not unit_vector.check(z).all():
        raise ValueError("z must hold unit vectors")
    m, points = z.shape[-1], z.double()
    if weights is None:
        weights = torch.ones(z.shape[-2], dtype=torch.float64, device=z.device)
    elif not isinstance(weights, Tensor):
        raise TypeError(f"weights must be a tensor, not {type(weights).__name__}")
    elif weights.dim() < 1 or weights.shape[-1] not in (1, z.shape[-2]):
        raise ValueError(f"weights {tuple(weights.shape)} must broadcast with {tuple(z.shape[:-1])}")
    elif validated and not (weights >= 0).all():
        raise ValueError("weights must be nonnegative")
    weights = weights.double().expand(torch.broadcast_shapes(weights.shape, z.shape[:-1]))
    total = weights.sum(-1)
    share = (weights / total.unsqueeze(-1)).unsqueeze(-1)
    mean = (share * points).sum(-2)
    loc = normalized(mean, (m,))
    # 1 - R is half the mean square distance from μ, with every digit.
    complement = 0.5 * (share.squeeze(-1) * (points - loc.unsqueeze(-2)).square().sum(-1)).sum(-1)
    none = (mean == 0).all(-1)  # where loc is NaN; other NaNs come from the data
    mean_length = torch.where(none, torch.zeros_like(complement), 1 - complement).clamp(0, 1)
    concentration = vmf_concentration(m, mean_length)
    if bias_correction:
        n = total.square() / weights.square().sum(-1)
        concentration = _unbiased_concentration(m, n, mean_length, concentration)
    return loc, concentration


@torch.no_grad()
def _unbiased_concentration(m: int, n: Tensor, mean_length: Tensor, upper: Tensor) -> Tensor:
    """The root κ of A(κ) = R A(nRκ) in (0, upper), by bisection, 0 where nR² <= 1; less its second-order bias."""
    low, high = torch.zeros_like(upper), upper
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = mean_length * vmf_mean_length(m, n * mean_length * middle) > vmf_mean_length(m, middle)
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    kappa = 0.5 * (low + high)
    excess = -mean_length_curvature(m, kappa) / (2 * (n - 1) * kappa * mean_length_slope(m, kappa).square())
    known = (n * mean_length.square() > 1) & upper.isfinite()
    return torch.where(known, kappa / (1 + excess), torch.where(upper.isinf(), upper, 0))
