"""Negative log-likelihoods of unit vectors as losses."""

import torch
from torch import Tensor

from ._arguments import as_concentration, check_last
from .vmf import log_density_at_mode, vmf_log_normalizer

__all__ = ["vmf_nll_embedding_loss", "vmf_nll_loss"]


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    raise ValueError(f"reduction must be 'none', 'mean' or 'sum', not {reduction!r}")


def vmf_nll_loss(loc: Tensor, concentration: Tensor | float, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood -log vMF(target; loc, concentration) of unit vectors.

    loc and target (..., m) are unit vectors, which is not checked; concentration >= 0 broadcasts with their batch
    shapes, or is one learned number. Every m and κ is exact to rounding, so the gradient in κ, target's component
    along loc less A_m(κ) with the sign turned, is continuous: there is no switch to an approximation at large κ.
    reduction: "none", "mean" or "sum"; another, or a target of another last size, raises ValueError.
    """
    concentration = as_concentration(concentration, loc)
    if loc.dim() < 1 or loc.shape[-1] < 2:
        raise ValueError(f"loc must have shape (..., m) with m >= 2, got {tuple(loc.shape)}")
    check_last("target", target, loc.shape[-1])
    distance = (target - loc).square().sum(-1)
    return _reduced(0.5 * concentration * distance - log_density_at_mode(loc.shape[-1], concentration), reduction)


def vmf_nll_embedding_loss(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of unit vectors under a prediction whose length is the concentration.

    -log C_m(‖e‖) - eᵀtarget for predictions e (..., m) and unit targets (..., m) (Kumar and Tsvetkov, ICLR 2019,
    equation 2), for continuous-output models. Exact for any m and length, 0 included, where the gradient is -target
    (and no second derivative is to be taken).
    reduction: "none", "mean" or "sum".
    """
    m = prediction.shape[-1]
    if target.shape[-1] != m:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must share their last size"
        )
    length = torch.linalg.vector_norm(prediction, dim=-1)
    short = length < 1
    # ‖e‖ - eᵀt = ‖e‖ ‖e/‖e‖ - t‖²/2 has no cancellation; a short e needs none of that and may be 0.
    safe = torch.where(short, torch.ones_like(length), length).unsqueeze(-1)
    distance = (prediction / safe - target).square().sum(-1)
    long_loss = 0.5 * length * distance - log_density_at_mode(m, length)
    short_loss = -vmf_log_normalizer(m, length) - (prediction * target).sum(-1)
    return _reduced(torch.where(short, short_loss, long_loss), reduction)
