"""A latent step on one sphere, rsample + KL from uniform + backward in float32, beside other laws and a Gaussian.

The protocol by which the spherical Cauchy latent was compared with von Mises-Fisher codes. "finite" is the share of a
grid, m from 2 to 2048 and κ from 1e-3 to 1e6, where value, draw and gradients are finite; "right" where the KL is also
within 1e-4 (1 + KL) of this law's in double precision.
"""

import functools

import torch
from torch.distributions import Normal, kl_divergence

import vmf_ops
from vmf_ops.distributions import HypersphericalUniform, VonMisesFisher

from . import peers
from .timing import Case

TITLE, UNIT = "Latent step: draw, divergence and gradients, float32", ("ms per step", 1e-3)
DIMENSIONS, BATCHES, KAPPAS = (8, 32, 128, 512, 2048), (128, 1024), (10.0, 300.0)
GRID = [(m, 10.0**e) for m in (2, 3, 8, 32, 128, 512, 2048) for e in range(-3, 7)]


def parameters(m, batch, kappa):
    generator = torch.Generator().manual_seed(m)
    return torch.randn(batch, m, generator=generator), torch.full((batch, 1), kappa)


def law(loc, kappa, **options):
    p = VonMisesFisher(loc, kappa.squeeze(-1), **options)
    return p.rsample(), kl_divergence(p, HypersphericalUniform(loc.size(-1)))


def ops(loc, kappa):
    loc = torch.nn.functional.normalize(loc, dim=-1)
    return vmf_ops.sample_vmf(loc, kappa), vmf_ops.vmf_kl_uniform(loc.size(-1), kappa)


def power_spherical(loc, kappa):
    return peers.power_spherical(torch.nn.functional.normalize(loc, dim=-1), kappa), peers.power_spherical_kl(
        loc.size(-1), kappa
    )


def spherical_cauchy(loc, kappa):
    """ρ = κ/(κ + m), so that a larger κ is more concentrated."""
    rho = kappa / (kappa + loc.size(-1))
    return peers.spherical_cauchy(torch.nn.functional.normalize(loc, dim=-1), rho), peers.spherical_cauchy_kl(
        loc.size(-1), rho
    )


def s_vae(loc, kappa):
    return peers.s_vae(torch.nn.functional.normalize(loc, dim=-1), kappa), peers.s_vae_kl(loc.size(-1), kappa)


def gaussian(loc, scale):
    p = Normal(loc, scale.expand_as(loc))
    return p.rsample(), kl_divergence(p, Normal(torch.zeros_like(loc), torch.ones_like(loc)))


def step(latent, loc, concentration):
    loc, concentration = loc.clone().requires_grad_(), concentration.clone().requires_grad_()

    def call():
        z, kl = latent(loc, concentration)
        return z, kl, *torch.autograd.grad(z.sum() + kl.sum(), (loc, concentration))

    return call


LATENTS = {
    "class": law,
    "class, unvalidated": functools.partial(law, validate_args=False),
    "ops": ops,
    "spherical Cauchy": spherical_cauchy,
    "Power Spherical": power_spherical,
    "S-VAE": s_vae,
    "Gaussian": gaussian,
}


def shares():
    """Of each von Mises-Fisher code, in percent: where it is finite, and where its KL is right, on the grid."""
    notes = {}
    for name, latent in (("class", law), ("S-VAE", s_vae)):
        finite = right = 0
        for m, kappa in GRID:
            try:
                z, kl, *gradients = step(latent, *parameters(m, 4, kappa))()
            except ValueError:
                continue
            is_finite = all(bool(t.isfinite().all()) for t in (z, kl, *gradients))
            exact = vmf_ops.vmf_kl_uniform(m, torch.tensor(kappa, dtype=torch.float32).double())
            finite += is_finite
            right += is_finite and bool(((kl.detach().double() - exact).abs() <= 1e-4 * (1 + exact)).all())
        notes[f"{name}: finite, right"] = f"{finite / len(GRID):.0%}, {right / len(GRID):.0%}"
    return notes


def cases():
    notes = shares()
    for batch in BATCHES:
        for kappa in KAPPAS:
            for m in DIMENSIONS:
                loc, concentration = parameters(m, batch, kappa)
                contenders = {name: step(latent, loc, concentration) for name, latent in LATENTS.items()}
                yield Case(f"batch {batch}, kappa = {kappa:g}, m = {m}", contenders, notes=notes)
                notes = {}
