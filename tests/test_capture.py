"""While a CUDA graph is captured nothing may wait for the device. Tensors of the device "meta" hold no data: whatever
looks at a value raises, as it would in a capture."""

import pytest
import torch
from torch.distributions import kl_divergence

import vmf_ops
from vmf_ops import distributions, losses
from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

DIMS = (5, 3, 2)


@pytest.fixture(autouse=True)
def captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)


def parameters(*shape, dims=DIMS):
    loc = torch.empty(*shape, sum(dims), device="meta", requires_grad=True)
    kappa = torch.empty(*shape, len(dims), device="meta", requires_grad=True)
    return (loc, kappa.squeeze(-1)) if len(dims) == 1 else (loc, kappa)


def backward(*results):
    for result in results:
        result.sum().backward(retain_graph=True)


@pytest.mark.parametrize("name", ["log_iv", "log_ive", "ive", "iv_ratio", "iv_ratio_c"])
def test_bessel_functions(name):
    x = torch.empty(7, device="meta", requires_grad=True)
    backward(getattr(vmf_ops, name)(2.5, x), getattr(vmf_ops, name)(torch.empty((), device="meta"), x))


@pytest.mark.parametrize("name", ["mean_length", "log_normalizer", "entropy", "kl_uniform", "concentration"])
def test_closed_forms(name):
    x = torch.empty(7, 3, device="meta", requires_grad=True)
    backward(getattr(vmf_ops, f"vmf_{name}")(5, x))


@pytest.mark.parametrize("gradient", ["implicit", "rsvi"])
def test_draws(gradient):
    loc, kappa = parameters(4)
    backward(vmf_ops.sample_vmf(loc, kappa, DIMS, sample_shape=(2,), gradient=gradient))


def laws():
    loc, kappa = parameters(4, dims=(5,))
    yield distributions.VonMisesFisher(loc, kappa, validate_args=True)
    yield distributions.ProductVonMisesFisher(*parameters(4), DIMS, validate_args=True)


def test_validated_laws():
    for law in laws():
        z = law.rsample((3,))
        assert z.shape == (3, 4, sum(law.loc.shape[-1:]))
        backward(z, law.log_prob(z), law.entropy(), law.mean, law.variance)
        kind = type(law)
        uniform = (
            distributions.HypersphericalUniform(5, device="meta", validate_args=True)
            if kind is distributions.VonMisesFisher
            else distributions.ProductHypersphericalUniform(DIMS, device="meta", validate_args=True)
        )
        backward(kl_divergence(law, uniform), kl_divergence(law, law))
        assert uniform.log_prob(z).shape == (3, 4)


def test_losses():
    loc, kappa = parameters(4, dims=(5,))
    backward(losses.vmf_nll_loss(loc, kappa, torch.empty(4, 5, device="meta")))


@pytest.mark.parametrize("dims", [(4, 4), DIMS, (200, 2, 2, 2)])
def test_a_vae_step(dims):
    layer = torch.nn.Linear(6, 8, device="meta")
    vae = HypersphericalVAE(
        layer, torch.nn.Linear(sum(dims), 6, device="meta"), ProductVMFLatent(8, dims, device="meta")
    )
    backward(-vae(torch.empty(3, 6, device="meta")).value)
    assert vae.log_likelihood(torch.empty(3, 6, device="meta"), num_samples=4).shape == (3,)


def test_constants_of_a_capture_are_not_kept():
    from vmf_ops._shells import _constants, constant

    before = dict(_constants)
    assert constant((2.5, 2.5, 3.5), torch.float64, torch.device("cpu")).tolist() == [2.5, 2.5, 3.5]
    assert _constants == before
