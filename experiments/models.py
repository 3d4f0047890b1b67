"""The paper's networks around a latent: the product of spheres, or the Gaussian it is compared with."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

HIDDEN = (256, 128)


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


def build(pixels: int, shells, model: str = "vmf", *, min_kappa: float = 1.0, gradient: str = "implicit"):
    """The paper's VAE: MLP pixels-256-128-latent, mirrored, ReLU. "gaussian" has the shells' ambient size."""
    dims = ambient_dims(shells)
    if model == "vmf":
        latent = ProductVMFLatent(HIDDEN[-1], dims, min_kappa=min_kappa, gradient=gradient)
    else:
        latent = GaussianLatent(HIDDEN[-1], sum(dims))
    decoder = nn.Sequential(*_relu_layers(latent.size, *reversed(HIDDEN)), nn.Linear(HIDDEN[0], pixels))
    return HypersphericalVAE(nn.Sequential(*_relu_layers(pixels, *HIDDEN)), decoder, latent)


def _relu_layers(*sizes: int) -> list[nn.Module]:
    return [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
