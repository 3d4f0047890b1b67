"""Negative log-likelihoods of unit vectors as losses."""

import torch
from torch import Tensor, nn

from ._arguments import as_parameters, check_last, refuse_all_pairs, refuse_kept_axis
from ._density import log_density_ratio
from .vmf import log_anchor, log_sphere_area

__all__ = ["VMFNLLEmbeddingLoss", "VMFNLLLoss", "vmf_nll_embedding_loss", "vmf_nll_loss"]


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
    loc, concentration = as_parameters(loc, concentration)
    if loc.dim() < 1 or loc.shape[-1] < 2:
        raise ValueError(f"loc must have shape (..., m) with m >= 2, got {tuple(loc.shape)}")
    check_last("target", target, loc.shape[-1])
    m, rows = loc.shape[-1], loc if loc.dim() >= target.dim() else target
    refuse_kept_axis("concentration", concentration, "target" if rows is target else "loc", rows)
    refuse_all_pairs(loc=loc, target=target)
    return _reduced(log_sphere_area(m) - log_density_ratio(m, concentration, target, loc), reduction)


def vmf_nll_embedding_loss(
    prediction: Tensor, target: Tensor, *, reg1: float = 0.0, reg2: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of unit vectors under a prediction whose length is the concentration.

    -log C_m(‖e‖) - eᵀtarget for predictions e (..., m) and unit targets (..., m) (Kumar and Tsvetkov, ICLR 2019,
    equation 2), for continuous-output models. Exact for any m and length, 0 included, where the gradient is -target
    (and no second derivative is to be taken).
    reg1 and reg2 are the paper's regularised forms: reg1 ‖e‖ is added (0.02 there), and eᵀtarget counts reg2 times (0.1
    there), so that no prediction grows without end. reduction: "none", "mean" or "sum".
    """
    check_last("target", target, prediction.shape[-1] if prediction.dim() else 0)
    refuse_all_pairs(prediction=prediction, target=target)
    given, m = torch.promote_types(prediction.dtype, target.dtype), prediction.shape[-1]
    if given in (torch.float16, torch.bfloat16):
        prediction, target = prediction.float(), target.float()
    # The largest coordinate as unit, so that no square overflows.
    largest = prediction.detach().abs().amax(-1)
    largest = torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(prediction / largest.unsqueeze(-1), dim=-1) * largest
    # As in _density.py, but that the equator's arm eᵀt needs no direction, which a prediction of 0 has not.
    low = length <= 0.5 * m
    distance = (prediction / torch.where(low, 1, length).unsqueeze(-1) - target).square().sum(-1)
    arm = torch.where(low, (prediction * target).sum(-1), -0.5 * length * distance)
    loss = log_sphere_area(m) - log_anchor(m, length) - arm
    if reg1:
        loss = loss + reg1 * length
    if reg2 != 1:
        loss = loss + (1 - reg2) * (prediction * target).sum(-1)
    return _reduced(loss.to(given), reduction)


class VMFNLLLoss(nn.Module):
    """vmf_nll_loss as a module: forward(loc, concentration, target)."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, loc: Tensor, concentration: Tensor | float, target: Tensor) -> Tensor:
        return vmf_nll_loss(loc, concentration, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class VMFNLLEmbeddingLoss(nn.Module):
    """vmf_nll_embedding_loss as a module: forward(prediction, target)."""

    def __init__(self, *, reg1: float = 0.0, reg2: float = 1.0, reduction: str = "mean"):
        super().__init__()
        self.reg1, self.reg2, self.reduction = reg1, reg2, reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        options = {"reg1": self.reg1, "reg2": self.reg2, "reduction": self.reduction}
        return vmf_nll_embedding_loss(prediction, target, **options)

    def extra_repr(self) -> str:
        return f"reg1={self.reg1:g}, reg2={self.reg2:g}, reduction={self.reduction!r}"
