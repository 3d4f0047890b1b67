"""Ops and a VAE's training step under torch.compile (Inductor), beside eager; compilation is not in the time."""

import torch

import vmf_ops
from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

from .timing import Case
from .vae import HIDDEN, GaussianVAE, mlps, training_step

TITLE, UNIT = "torch.compile beside eager", ("us per call", 1e-6)


def both(function):
    return {"eager": function, "compiled": torch.compile(function, fullgraph=True)}


def cases():
    x = 10 ** torch.empty(10_000).uniform_(-2, 3)
    yield Case("log_iv of 10,000, and arithmetic", both(lambda: torch.exp(vmf_ops.log_iv(7.0, x) - x) * 2))
    loc, kappa = torch.nn.functional.normalize(torch.randn(1000, 16), dim=-1), torch.full((1000, 1), 20.0)
    yield Case("sample_vmf of 1000 rows, m = 16", both(lambda: vmf_ops.sample_vmf(loc, kappa).square()))
    images, dims = (torch.rand(100, 784) > 0.8).float(), (16, 11, 5, 4, 3, 2)
    ours = HypersphericalVAE(*mlps(sum(dims)), ProductVMFLatent(HIDDEN, dims))
    plain = GaussianVAE(*mlps(sum(dims)), sum(dims))
    losses = {
        "VAE step, 6 shells": lambda: -ours.elbo(images).value.mean(),
        "VAE step, Gaussian": lambda: plain.loss(images),
    }
    for (name, loss), model in zip(losses.items(), (ours, plain), strict=True):
        yield Case(name, {way: training_step(model, f) for way, f in both(loss).items()})
