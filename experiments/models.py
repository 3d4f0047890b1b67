"""The paper's networks around a latent: the product of spheres, or the Gaussian it is compared with."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments import published
from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent, ProductVMFPosterior

HIDDEN = (256, 128)

CONCENTRATIONS = {
    "softplus": lambda raw, degrees: F.softplus(raw),
    "scaled": lambda raw, degrees: degrees * F.softplus(raw),
    "exp": lambda raw, degrees: raw.exp(),
}
"""What is added to the least κ, from the head's number and the shell's degrees of freedom m - 1."""

LAWS = ("exact", "published")


def ambient_dims(shells) -> tuple[int, ...]:
    """Ambient dimensions m = d + 1 of spheres S_d: what the package takes, from what the paper and `--shells` say."""
    return tuple(d + 1 for d in shells)


def parse_shells(text: str) -> tuple[int, ...]:
    """Sphere dimensions d >= 1 from "15,10,4,3,2,1"."""
    try:
        shells = tuple(map(int, text.split(",")))
    except ValueError:
        shells = (0,)
    if min(shells) < 1:
        raise ValueError(f"shells are sphere dimensions d >= 1 separated by commas, like 15,10,4; got {text!r}")
    return shells


class GaussianPosterior:
    """Diagonal Gaussian against a standard normal prior; all its dimensions count as one shell."""

    def __init__(self, mean: Tensor, scale: Tensor):
        self.mean, self.scale = mean, scale

    @property
    def mode(self) -> Tensor:
        return self.mean

    def rsample(self, sample_shape=()) -> Tensor:
        shape = torch.Size(sample_shape) + self.mean.shape
        return self.mean + self.scale * torch.randn(shape, dtype=self.mean.dtype, device=self.mean.device)

    def kl_per_shell(self) -> Tensor:
        return 0.5 * (self.mean.square() + self.scale.square() - 1 - 2 * self.scale.log()).sum(-1, keepdim=True)

    def log_ratio(self, z: Tensor) -> Tensor:
        return (0.5 * (z.square() - ((z - self.mean) / self.scale).square()) - self.scale.log()).sum(-1)


class GaussianLatent(nn.Module):
    def __init__(self, in_features: int, size: int):
        super().__init__()
        self.size = size
        self.mean, self.scale = nn.Linear(in_features, size), nn.Linear(in_features, size)

    def forward(self, features: Tensor) -> GaussianPosterior:
        return GaussianPosterior(self.mean(features), F.softplus(self.scale(features)))

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, self.size, device=self.mean.weight.device)


class PublishedPosterior(ProductVMFPosterior):
    """Density and KL of von Mises-Fisher laws, samples by the published code."""

    def rsample(self, sample_shape=()) -> Tensor:
        shape = torch.Size(sample_shape)
        loc, kappa = self.loc, self.concentration
        return published.product(loc.expand(shape + loc.shape), kappa.expand(shape + kappa.shape), self.dims)


class VariantLatent(ProductVMFLatent):
    """The product of spheres with another map to κ, one of CONCENTRATIONS, or drawn from another of the LAWS."""

    def __init__(self, in_features: int, dims, *, link: str = "softplus", law: str = "exact", **options):
        super().__init__(in_features, dims, **options)
        self.link, self.law = link, law
        self.register_buffer("degrees", torch.tensor(self.dims) - 1.0, persistent=False)

    def concentration(self, raw: Tensor) -> Tensor:
        return self.min_kappa + CONCENTRATIONS[self.link](raw, self.degrees)

    def forward(self, features: Tensor) -> ProductVMFPosterior:
        posterior = super().forward(features)
        if self.law == "exact":
            return posterior
        return PublishedPosterior(posterior.loc, posterior.concentration, self.dims)


def build(pixels: int, shells, model: str = "vmf", *, kappa: str = "softplus", law: str = "exact", **options):
    """The paper's VAE: MLP pixels-256-128-latent, mirrored, ReLU. "gaussian" has the shells' ambient size.

    The options are `VariantLatent`'s.
    """
    dims = ambient_dims(shells)
    if model == "vmf" and (kappa, law) == ("softplus", "exact"):
        latent = ProductVMFLatent(HIDDEN[-1], dims, **options)
    elif model == "vmf":
        latent = VariantLatent(HIDDEN[-1], dims, link=kappa, law=law, **options)
    else:
        latent = GaussianLatent(HIDDEN[-1], sum(dims))
    decoder = nn.Sequential(*_relu_layers(latent.size, *reversed(HIDDEN)), nn.Linear(HIDDEN[0], pixels))
    return HypersphericalVAE(nn.Sequential(*_relu_layers(pixels, *HIDDEN)), decoder, latent)


def _relu_layers(*sizes: int) -> list[nn.Module]:
    return [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
