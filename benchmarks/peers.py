"""Other laws of directions about a mean, and other codes of this one, written from their papers: a draw, and the
divergence from the uniform law. loc (..., m), concentrations (..., 1)."""

import functools
import math

import numpy as np
import scipy.special
import torch
from torch import Tensor

from experiments.published import about, s_vae

__all__ = ["on_each_shell", "power_spherical", "power_spherical_kl", "s_vae", "s_vae_kl", "spherical_cauchy"]


def log_area(m: int) -> float:
    return math.log(2) + 0.5 * m * math.log(math.pi) - math.lgamma(0.5 * m)


def power_spherical(loc: Tensor, kappa: Tensor) -> Tensor:
    """De Cao and Aziz (2020), density ~ (1 + μᵀz)^κ: the cosine by a Beta draw."""
    half = 0.5 * (loc.size(-1) - 1)
    beta = torch.distributions.Beta(half + kappa, torch.full_like(kappa, half))
    return about(loc, 2 * beta.rsample() - 1)


def power_spherical_kl(m: int, kappa: Tensor) -> Tensor:
    beta = 0.5 * (m - 1)
    alpha = beta + kappa
    ratio = torch.lgamma(alpha) - torch.lgamma(alpha + beta)
    log_normalizer = (alpha + beta) * math.log(2) + beta * math.log(math.pi) + ratio
    mean_log = math.log(2) + torch.digamma(alpha) - torch.digamma(alpha + beta)
    return log_area(m) - log_normalizer + kappa * mean_log


def spherical_cauchy(loc: Tensor, rho: Tensor) -> Tensor:
    """Kato and McCullagh (2020): the Möbius transform of a uniform point, 0 <= ρ < 1."""
    u = torch.nn.functional.normalize(torch.randn_like(loc), dim=-1)
    shifted = u + rho * loc
    return (1 - rho * rho) * shifted / shifted.square().sum(-1, keepdim=True) + rho * loc


@functools.cache
def _cosine_nodes(m: int, nodes: int = 64) -> tuple[Tensor, Tensor]:
    """Gauss-Jacobi nodes and weights for the cosine of a uniform point."""
    t, weight = scipy.special.roots_jacobi(nodes, (m - 3) / 2, (m - 3) / 2)
    return torch.tensor(t, dtype=torch.float32), torch.tensor(weight / weight.sum(), dtype=torch.float32)


def spherical_cauchy_kl(m: int, rho: Tensor) -> Tensor:
    """(m-1) E log(|u + ρμ|² / (1-ρ²)) over uniform u, by quadrature in the cosine, to 1e-5 for ρ <= 0.9."""
    t, weight = _cosine_nodes(m)
    mean_log = (weight * torch.log(1 + rho * rho + 2 * rho * t)).sum(-1, keepdim=True)
    return (m - 1) * (mean_log - torch.log1p(-rho * rho))


class _Ive(torch.autograd.Function):
    """SciPy's ive on the host, with its recurrence as derivative, as the code of Davidson et al. (2018) has it."""

    @staticmethod
    def forward(ctx, v, x):
        value = torch.from_numpy(np.asarray(scipy.special.ive(v, x.detach().double().numpy()))).to(x.dtype)
        ctx.v = v
        ctx.save_for_backward(x, value)
        return value

    @staticmethod
    def backward(ctx, grad):
        x, value = ctx.saved_tensors
        return None, grad * (_Ive.apply(ctx.v - 1, x) - value * (ctx.v + x) / x)


def s_vae_kl(m: int, kappa: Tensor) -> Tensor:
    """κ A(κ) + log C(κ) + log area: from two ive, whose difference in size cancels or vanishes in large dimensions."""
    order = m / 2 - 1
    scaled = _Ive.apply(order, kappa)
    mean_length = _Ive.apply(order + 1, kappa) / scaled
    log_normalizer = order * torch.log(kappa) - m / 2 * math.log(2 * math.pi) - (kappa + torch.log(scaled))
    return kappa * mean_length + log_normalizer + log_area(m)


def on_each_shell(sampler, loc, kappa, dims):
    parts = zip(loc.split(dims, -1), kappa.split(1, -1), strict=True)
    return torch.cat([sampler(*part) for part in parts], -1)
