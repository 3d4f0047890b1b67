"""Other samplers of directions about a mean, written from their papers, one shell at a time as their code has it."""

import torch

from experiments.published import about, s_vae

__all__ = ["on_each_shell", "power_spherical", "s_vae"]


def power_spherical(loc, kappa):
    """De Cao and Aziz (2020): the cosine by a Beta draw; another law than von Mises-Fisher's."""
    half = 0.5 * (loc.size(-1) - 1)
    beta = torch.distributions.Beta(half + kappa, torch.full_like(kappa, half))
    return about(loc, 2 * beta.rsample() - 1)


def on_each_shell(sampler, loc, kappa, dims):
    parts = zip(loc.split(dims, -1), kappa.split(1, -1), strict=True)
    return torch.cat([sampler(*part) for part in parts], -1)
