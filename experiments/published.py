"""The sampler of the published code of hyperspherical VAEs, which draws from another law than it means to."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def about(loc: Tensor, cosine: Tensor) -> Tensor:
    """Points with that cosine to e1 and a uniform tangent, mirrored so that e1 becomes loc."""
    tangent = normalize(torch.randn_like(loc[..., 1:]), dim=-1)
    y = torch.cat([cosine, (1 - cosine * cosine).clamp_min(1e-10).sqrt() * tangent], -1)
    mirror = normalize(torch.eye(loc.size(-1), device=loc.device, dtype=loc.dtype)[0] - loc, dim=-1)
    return y - 2 * (y * mirror).sum(-1, keepdim=True) * mirror


def s_vae(loc: Tensor, kappa: Tensor) -> Tensor:
    """Davidson et al. (2018), loc (..., m) and kappa (..., 1): Wood's rejection until every row has a proposal
    accepted, in a loop that the host leads, with the gradient of the accepted proposal.

    b describes Wood's envelope; for κ > 10 the published code takes b = (m-1)/4κ, its limit for κ far larger than m,
    blended in over 10 < κ < 11. That gives another law: at m = 41, κ = 11 its mean cosine is 0.05 and should be 0.25.
    """
    n = loc.size(-1) - 1
    if n == 2:
        u = torch.rand_like(kappa)
        return about(loc, 1 + torch.log(u + (1 - u) * torch.exp(-2 * kappa)) / kappa)
    root = torch.sqrt(4 * kappa**2 + n * n)
    blend = (kappa - 10).clamp(0, 1)
    b = blend * n / (4 * kappa) + (1 - blend) * (root - 2 * kappa) / n
    a = (n + 2 * kappa + root) / 4
    constant = 4 * a * b / (1 + b) - n * torch.log(kappa.new_tensor(n))
    proposal = torch.distributions.Beta(kappa.new_tensor(n / 2), kappa.new_tensor(n / 2))
    cosine, waiting = torch.zeros_like(kappa), torch.ones_like(kappa, dtype=torch.bool)
    while waiting.any():
        e = proposal.sample(kappa.shape)
        below = 1 - (1 - b) * e
        t = 2 * a * b / below
        accepted = waiting & (n * t.log() - t + constant > torch.rand_like(kappa).log())
        cosine = torch.where(accepted, (1 - (1 + b) * e) / below, cosine)
        waiting &= ~accepted
    return about(loc, cosine)


def product(loc: Tensor, kappa: Tensor, dims) -> Tensor:
    """`s_vae` on shells side by side, loc (..., Σm) and kappa (..., K); equal shells are drawn together."""
    points = list(loc.split(dims, -1))
    for m in set(dims):
        equal = [k for k, other in enumerate(dims) if other == m]
        z = s_vae(torch.stack([points[k] for k in equal], -2), kappa[..., equal].unsqueeze(-1))
        for k, point in zip(equal, z.unbind(-2), strict=True):
            points[k] = point
    return torch.cat(points, -1)
