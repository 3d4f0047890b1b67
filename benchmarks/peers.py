"""Other samplers of directions about a mean, written from their papers, one shell at a time as their code has it."""

import torch
from torch.nn.functional import normalize


def _about(loc, cosine):
    """Points with that cosine to e1 and a uniform tangent, mirrored so that e1 becomes loc."""
    tangent = normalize(torch.randn_like(loc[..., 1:]), dim=-1)
    y = torch.cat([cosine, (1 - cosine * cosine).clamp_min(0).sqrt() * tangent], -1)
    mirror = normalize(torch.eye(loc.size(-1), device=loc.device, dtype=loc.dtype)[0] - loc, dim=-1)
    return y - 2 * (y * mirror).sum(-1, keepdim=True) * mirror


def power_spherical(loc, kappa):
    """De Cao and Aziz (2020): the cosine by a Beta draw; another law than von Mises-Fisher's."""
    half = 0.5 * (loc.size(-1) - 1)
    beta = torch.distributions.Beta(half + kappa, torch.full_like(kappa, half))
    return _about(loc, 2 * beta.rsample() - 1)


def s_vae(loc, kappa):
    """Davidson et al. (2018): Wood's rejection until every row has a proposal accepted, in a loop that the host leads;
    with the published code's approximation of the envelope for κ > 10, which gives another law."""
    n = loc.size(-1) - 1
    if n == 2:
        u = torch.rand_like(kappa)
        return _about(loc, 1 + torch.log(u + (1 - u) * torch.exp(-2 * kappa)) / kappa)
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
    return _about(loc, cosine)


def on_each_shell(sampler, loc, kappa, dims):
    parts = zip(loc.split(dims, -1), kappa.split(1, -1), strict=True)
    return torch.cat([sampler(*part) for part in parts], -1)
