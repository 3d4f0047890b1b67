"""One training step of the hyperspherical VAE beside a Gaussian VAE of the same MLP and latent size (batch 100)."""

import torch
from torch import nn

from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

from .timing import Case

TITLE, UNIT = "VAE training step, MLP 784-256-128-latent, batch 100", ("ms per step", 1e-3)
SHELLS = ((41,), (16, 11, 5, 4, 3, 2), (5,) + (4,) * 9, (2,) * 20)
HIDDEN = 128


class GaussianVAE(nn.Module):
    def __init__(self, encoder, decoder, size):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.mean, self.scale = nn.Linear(HIDDEN, size), nn.Linear(HIDDEN, size)

    def loss(self, x):
        hidden = self.encoder(x)
        posterior = torch.distributions.Normal(self.mean(hidden), nn.functional.softplus(self.scale(hidden)))
        prior = torch.distributions.Normal(torch.zeros_like(posterior.mean), torch.ones_like(posterior.mean))
        logits = self.decoder(posterior.rsample())
        reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return (reconstruction + torch.distributions.kl_divergence(posterior, prior).sum(-1)).mean()


def mlps(size):
    encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, HIDDEN), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 256), nn.ReLU(), nn.Linear(256, 784))
    return encoder, decoder


def training_step(model, loss):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def cases():
    x = (torch.rand(100, 784) > 0.8).float()
    for dims in SHELLS:
        ours = HypersphericalVAE(*mlps(sum(dims)), ProductVMFLatent(HIDDEN, dims))
        plain = GaussianVAE(*mlps(sum(dims)), sum(dims))
        contenders = {
            "vmf_ops": training_step(ours, lambda model=ours: -model.elbo(x).value.mean()),
            "Gaussian": training_step(plain, lambda model=plain: model.loss(x)),
        }
        yield Case(f"{len(dims)} shells in R^{sum(dims)}", contenders)
