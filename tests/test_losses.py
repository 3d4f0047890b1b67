"""The losses: the likelihood, its gradient, training through them."""

import math

import pytest
import torch
from laws import direction, double
from laws import seeded_and_validated as seeded_and_validated

from vmf_ops.distributions import (
    VonMisesFisher,
    vmf_nll_embedding_loss,
    vmf_nll_loss,
)
from vmf_ops.losses import VMFNLLEmbeddingLoss, VMFNLLLoss
from vmf_ops.vmf import log_sphere_area, vmf_concentration, vmf_mean_length

pytestmark = pytest.mark.usefixtures("device")


def test_losses_are_the_negative_log_likelihood():
    mu, z = direction(6, 8), direction(6, 8)
    kappa = torch.rand(8, dtype=double) * 30
    expected = -VonMisesFisher(mu, kappa).log_prob(z)
    torch.testing.assert_close(vmf_nll_loss(mu, kappa, z, reduction="none"), expected)
    torch.testing.assert_close(vmf_nll_loss(mu, kappa, z), expected.mean())
    torch.testing.assert_close(vmf_nll_loss(mu, kappa, z, reduction="sum"), expected.sum())
    e = kappa.unsqueeze(-1) * mu
    torch.testing.assert_close(vmf_nll_embedding_loss(e, z, reduction="none"), expected)
    torch.testing.assert_close(vmf_nll_embedding_loss(e / 100, z), vmf_nll_loss(mu, kappa / 100, z))
    for loss in (
        lambda r: vmf_nll_loss(mu, kappa, z, reduction=r),
        lambda r: vmf_nll_embedding_loss(e, z, reduction=r),
    ):
        with pytest.raises(ValueError, match="reduction"):
            loss("median")
    with pytest.raises(ValueError, match=r"target must have shape \(..., 6\), got \(8, 5\)"):
        vmf_nll_embedding_loss(e, z[:, :5])


def test_embedding_loss_gradient():
    z = direction(6, 3)
    e = torch.stack([0.3 * direction(6), 40 * direction(6), 1.0 * direction(6)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: vmf_nll_embedding_loss(e, z, reduction="none"), e)
    zero = torch.zeros(6, dtype=double, requires_grad=True)
    value = vmf_nll_embedding_loss(zero, z[0])
    assert value.item() == pytest.approx(log_sphere_area(6), rel=1e-15)
    assert torch.equal(torch.autograd.grad(value, zero)[0], -z[0])


@pytest.mark.parametrize("m", [3, 512, 4096])
def test_gradient_in_kappa_is_continuous(m):
    """Steps of the gradient are those of A_m, at and around kappa = 100 too, where copied losses change method."""
    mu, z = direction(m, dtype=torch.float32), direction(m, dtype=torch.float32)
    kappa = torch.cat([torch.linspace(99, 101, 401), torch.logspace(-2, 6, 801)]).requires_grad_()
    losses = vmf_nll_loss(mu.expand(len(kappa), m), kappa, z, reduction="none")
    slope = torch.autograd.grad(losses.sum(), kappa)[0].double()
    length = vmf_mean_length(m, kappa.detach().double())
    offset = slope - length  # minus the component of z along mu: one number for all kappa
    assert (offset - offset.median()).abs().max() < 4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("m, start, true", [(3, 5.0, 300.0), (512, 20.0, 400.0)])
def test_training_through_kappa_100_lands_on_the_maximum_likelihood(m, start, true):
    mu = direction(m, dtype=torch.float32)
    z = VonMisesFisher(mu, true).sample((500,))
    best = VonMisesFisher.fit(z)
    log_kappa = torch.tensor(math.log(start), requires_grad=True)
    optimizer = torch.optim.Adam([log_kappa], lr=0.2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    path = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = vmf_nll_loss(best.loc, log_kappa.exp(), z)
        loss.backward()
        optimizer.step()
        scheduler.step()
        path.append(log_kappa.exp().item())
    assert path[0] < 100 < path[-1]
    assert path[-1] == pytest.approx(best.concentration.item(), rel=1e-3)


def test_regularised_embedding_losses():
    """Kumar and Tsvetkov's reg1 adds a multiple of the length, reg2 scales the cosine's part; modules give the same."""
    e, z = 20 * direction(8, 5), direction(8, 5)
    plain = vmf_nll_embedding_loss(e, z, reduction="none")
    length, dot = e.norm(dim=-1), (e * z).sum(-1)
    for options, extra in (({"reg1": 0.02}, 0.02 * length), ({"reg2": 0.1}, 0.9 * dot)):
        expected = plain + extra
        torch.testing.assert_close(vmf_nll_embedding_loss(e, z, reduction="none", **options), expected)
        module = VMFNLLEmbeddingLoss(**options)
        torch.testing.assert_close(module(e, z), expected.mean())
        assert next(iter(options)) in repr(module)
    kappa = torch.rand(5, dtype=double)
    torch.testing.assert_close(VMFNLLLoss("sum")(z, kappa, z), vmf_nll_loss(z, kappa, z, reduction="sum"))
    assert "sum" in repr(VMFNLLLoss("sum"))
    # Without reg2 the best length for an exact prediction is infinite; with it, A_m(κ) = reg2.
    size = torch.tensor(1.0, dtype=double, requires_grad=True)
    slopes = [
        torch.autograd.grad(vmf_nll_embedding_loss(k * z[:1], z[:1], reg2=0.5), k)[0]
        for k in (size, (2 * vmf_concentration(8, torch.tensor(0.5))).double().requires_grad_())
    ]
    assert slopes[0] < 0 < slopes[1]
