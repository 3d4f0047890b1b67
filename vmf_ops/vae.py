"""A variational autoencoder whose latent space is a product of hyperspheres.

The posterior of each shell is a von Mises-Fisher distribution, its prior the uniform law on that sphere
(Davidson, Tomczak, Gavves: Increasing Expressivity of a Hyperspherical VAE, 2019).

A *latent* is any module from features (..., in_features) to a *posterior* with three methods: `rsample(sample_shape)`,
`kl_per_shell()` of shape (..., K), and `log_ratio(z)` = log q(z|x) - log p(z). `HypersphericalVAE` asks for no more, so
another topology is another such pair.
"""

import math
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._normalize import fused, normalized
from ._shells import check_dims, constant, repeat_by_shell, sum_by_shell
from .distributions import ProductHypersphericalUniform, ProductVonMisesFisher

__all__ = ["ELBO", "HypersphericalVAE", "ProductVMFLatent", "ProductVMFPosterior"]


class ELBO(NamedTuple):
    """The evidence lower bound of each row and its parts."""

    value: Tensor
    """reconstruction - sum of beta * kl over the shells, (B,)"""
    reconstruction: Tensor
    """log p(x|z), (B,)"""
    kl: Tensor
    """KL of each shell's posterior from its uniform prior, without beta, (B, K)"""


class ProductVMFPosterior(ProductVonMisesFisher):
    """What `ProductVMFLatent` makes of features: a product of K von Mises-Fisher laws against a uniform prior.

    `loc` (..., Σm) holds the unit mean directions side by side, `concentration` (..., K) each shell's κ; `log_ratio`,
    of the density to the uniform law's, is log q(z|x) - log p(z).
    """

    def __init__(self, loc: Tensor, concentration: Tensor, dims, gradient: str = "implicit"):
        super().__init__(loc, concentration, dims, normalize=False, validate_args=False)
        self.gradient = gradient

    def rsample(self, sample_shape=(), **options) -> Tensor:
        """Samples of shape sample_shape + (..., Σm), by default with the latent's gradient."""
        return super().rsample(sample_shape, **{"gradient": self.gradient, **options})


class ProductVMFLatent(nn.Module):
    """From features (..., in_features) to the posterior on a product of K spheres.

    One linear head gives Σm coordinates, normalised to unit length in each shell, and K numbers t that give
    κ = min_kappa + softplus(t).

    Args:
        in_features: size of the features' last dimension.
        dims: the K ambient dimensions m >= 2 (shell S_{m-1}); an int for one shell.
        min_kappa: the smallest κ. 1, the default, is the paper's 1 + softplus; 0 lets a shell reach its prior (κ = 0).
        kappa: fixed concentrations, a number or one for each shell, in place of learned ones: the KL is then constant.
        gradient: "implicit" (unbiased) or "rsvi" (the paper's biased pathwise gradient), as in `sample_vmf`.

    The posterior is computed in float32 at least: under autocast, or in a half or bfloat16 module, loc and kappa are
    float32. Raises TypeError or ValueError for bad dims, in_features, min_kappa or gradient.

    For sharded training (FSDP2) apply fully_shard to `head` and to the model, not to the latent, whose result is a law,
    in which torch finds no tensors to hook.

    >>> latent = ProductVMFLatent(128, dims=(16, 11, 5))
    >>> posterior = latent(torch.randn(4, 128))
    >>> posterior.rsample((7,)).shape, posterior.kl_per_shell().shape
    (torch.Size([7, 4, 32]), torch.Size([4, 3]))
    """

    def __init__(self, in_features, dims, *, min_kappa=1.0, kappa=None, gradient="implicit", device=None, dtype=None):
        super().__init__()
        self.dims = check_dims(dims if isinstance(dims, Iterable) else (dims,))
        if in_features < 1:
            raise ValueError(f"in_features must be at least 1, got {in_features}")
        if not 0 <= min_kappa < float("inf"):
            raise ValueError(f"min_kappa must be a finite number >= 0, got {min_kappa}")
        if gradient not in ("implicit", "rsvi"):
            raise ValueError(f'gradient must be "implicit" or "rsvi", got {gradient!r}')
        self.in_features, self.min_kappa, self.gradient = in_features, float(min_kappa), gradient
        self.size = sum(self.dims)
        """Σm, the size of a sample, which is what the decoder takes"""
        self.register_buffer("kappa", None)
        if kappa is not None:
            kappa = torch.as_tensor(kappa, dtype=torch.get_default_dtype(), device=device)
            if kappa.shape not in ((), (len(self.dims),)) or not (kappa >= 0).all():
                raise ValueError(f"kappa must be a number >= 0 or one for each of {len(self.dims)} shells, got {kappa}")
            self.kappa = kappa.expand(len(self.dims)).clone()
        outputs = self.size + (len(self.dims) if kappa is None else 0)
        self.head = nn.Linear(in_features, outputs, device=device, dtype=dtype)
        # Each shell's first coordinate gets a constant that the head's bias can undo: a head that gives exactly zero
        # then has the direction e1 and a finite gradient instead of NaN.
        self._pole = [0.0] * outputs
        for first in accumulate(self.dims[:-1], initial=0):
            self._pole[first] = 1e-3
        self._pole = tuple(self._pole)

    def sample_prior(self, n: int) -> Tensor:
        """n points uniform on the product of spheres, (n, Σm)."""
        weight = self.head.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return ProductHypersphericalUniform(self.dims, dtype=dtype, device=weight.device).sample((n,))

    def normalise(self, raw: Tensor) -> Tensor:
        """Divides each shell of raw (..., Σm) by its length."""
        if fused(raw):
            return normalized(raw, self.dims)
        # In float64, where a square of float32's neither overflows nor vanishes.
        wide = raw.double()
        tiny = torch.finfo(wide.dtype).tiny
        if len(set(self.dims)) == 1:
            shells = torch.unflatten(wide, -1, (len(self.dims), self.dims[0]))
            return (shells * shells.square().sum(-1, keepdim=True).add(tiny).rsqrt()).flatten(-2).to(raw.dtype)
        lengths = sum_by_shell(wide.square(), self.dims).add(tiny).rsqrt()
        return (wide * repeat_by_shell(lengths, self.dims)).to(raw.dtype)

    def concentration(self, raw: Tensor) -> Tensor:
        """κ (..., K) from the head's numbers for it: min_kappa + softplus(raw)."""
        kappa = F.softplus(raw)
        return kappa + self.min_kappa if self.min_kappa else kappa

    def forward(self, features: Tensor) -> ProductVMFPosterior:
        if features.shape[-1] != self.in_features:
            raise ValueError(f"expected features of shape (..., {self.in_features}), got {tuple(features.shape)}")
        raw = self.head(features)
        raw = raw + constant(self._pole, raw.dtype, raw.device)
        if raw.dtype in (torch.float16, torch.bfloat16):
            raw = raw.float()
        if self.kappa is not None:
            kappa = self.kappa.to(raw.dtype).expand(raw.shape[:-1] + self.kappa.shape)
            return ProductVMFPosterior(self.normalise(raw), kappa, self.dims, self.gradient)
        raw_loc, raw_kappa = raw.split((self.size, len(self.dims)), -1)
        return ProductVMFPosterior(self.normalise(raw_loc), self.concentration(raw_kappa), self.dims, self.gradient)

    def extra_repr(self) -> str:
        kappa = f"min_kappa={self.min_kappa:g}" if self.kappa is None else f"kappa={self.kappa.tolist()}"
        return f"dims={self.dims}, {kappa}, gradient={self.gradient!r}"


class HypersphericalVAE(nn.Module):
    """Variational autoencoder for data in [0, 1] with a Bernoulli likelihood.

    Args:
        encoder: module from x (B, ...) to features (B, in_features).
        decoder: module from latent samples (N, latent.size) to Bernoulli logits, one per element of an x.
        latent: `ProductVMFLatent`, or any module that gives a posterior as the head of this file describes.

    Calling the module is `elbo`, so wrappers like DistributedDataParallel and torch.compile work on it.

    >>> encoder = nn.Sequential(nn.Linear(784, 128), nn.ReLU())
    >>> decoder = nn.Sequential(nn.Linear(9, 128), nn.ReLU(), nn.Linear(128, 784))
    >>> vae = HypersphericalVAE(encoder, decoder, ProductVMFLatent(128, dims=(5, 4)))
    >>> x = (torch.rand(10, 784) > 0.5).float()
    >>> value, reconstruction, kl = vae.elbo(x)
    >>> value.shape, kl.shape, vae.log_likelihood(x, num_samples=20).shape
    (torch.Size([10]), torch.Size([10, 2]), torch.Size([10]))
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: nn.Module):
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent

    def elbo(self, x: Tensor, beta: "float | Tensor | list | tuple" = 1.0) -> ELBO:
        """log p(x) >= E log p(x|z) - Σ_k β_k KL_k, by one sample of z for each row.

        x is (B, ...) with values in [0, 1]; `beta` a number or one for each shell. Raises ValueError if beta has
        another length, or if the decoder's output doesn't fit x.
        """
        features = self.encoder(x)
        posterior = self.latent(features)
        # Half-precision decoders take half-precision samples; elsewhere the cast does nothing.
        logits = self.decoder(posterior.rsample().to(features.dtype))
        reconstruction = _bernoulli_log_prob(x.flatten(1), logits.flatten(1))
        kl = posterior.kl_per_shell()
        if isinstance(beta, (int, float)):
            penalty = kl.sum(-1) if beta == 1 else beta * kl.sum(-1)
        else:
            beta = torch.as_tensor(beta, dtype=kl.dtype, device=kl.device)
            if beta.dim() > 0 and beta.shape != kl.shape[-1:]:
                raise ValueError(
                    f"beta must be a number or one for each of {kl.shape[-1]} shells, got {tuple(beta.shape)}"
                )
            penalty = (beta * kl).sum(-1)
        return ELBO(reconstruction - penalty, reconstruction, kl)

    forward = elbo

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, num_samples: int = 500, chunk_size: int = 2048) -> Tensor:
        """log p(x) of each row (B,) by importance sampling: log mean_s p(x|z_s) p(z_s) / q(z_s|x), z_s from q.

        A lower bound in expectation, tight as num_samples grows. At most `chunk_size` images are decoded at once, which
        bounds memory; the result's law doesn't depend on it. Without gradient.
        """
        if num_samples < 1 or chunk_size < 1:
            raise ValueError(f"num_samples and chunk_size must be at least 1, got {num_samples} and {chunk_size}")
        return torch.cat([self._log_likelihood(rows, num_samples, chunk_size) for rows in x.split(chunk_size)])

    def _log_likelihood(self, x: Tensor, num_samples: int, chunk_size: int) -> Tensor:
        features = self.encoder(x)
        posterior = self.latent(features)
        x = x.flatten(1)
        total = None
        step = max(1, chunk_size // max(1, len(x)))
        for start in range(0, num_samples, step):
            z = posterior.rsample((min(step, num_samples - start),))
            logits = self.decoder(z.flatten(0, 1).to(features.dtype))
            logits = torch.unflatten(logits.flatten(1), 0, z.shape[:2])
            weights = _bernoulli_log_prob(x, logits) - posterior.log_ratio(z)
            part = weights.logsumexp(0)
            total = part if total is None else torch.logaddexp(total, part)
        return total - math.log(num_samples)


def _bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """Σ over the last dimension of x·logit - log(1 + e^logit), x (B, D) and logits (..., B, D); float32 at least."""
    if logits.shape[-2:] != x.shape:
        raise ValueError(
            f"the decoder gave {tuple(logits.shape[-2:])} logits for {tuple(x.shape)} elements of the batch"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    x = x.to(logits.dtype)
    # softplus turns into the identity above its threshold; at 40 the difference is below float64's rounding.
    return (x * logits - F.softplus(logits, threshold=40.0)).sum(-1)
