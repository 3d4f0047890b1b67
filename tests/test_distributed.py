"""Two processes on the CPU: sharded tensors, and training steps whose parameters or batches are shared."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor, init_device_mesh
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

import vmf_ops
from vmf_ops.distributions.divergence import kl_between
from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

DIMS = (5, 3, 2)


def elementwise(mesh):
    """Values and gradients are those of the whole tensors, and sharded as they are."""
    generator = torch.Generator().manual_seed(0)
    v, x = torch.rand(5, 1, generator=generator) * 9, torch.rand(5, 4, generator=generator) * 50
    for dim in (0, 1):
        order, argument = (t.clone().requires_grad_() for t in (v, x))
        whole = vmf_ops.log_iv(order, argument)
        whole.sum().backward()
        split_order = distribute_tensor(v, mesh, [Shard(0) if dim == 0 else Replicate()]).requires_grad_()
        split = distribute_tensor(x, mesh, [Shard(dim)]).requires_grad_()
        y = vmf_ops.log_iv(split_order, split)
        assert y.placements == (Shard(dim),) and torch.equal(y.full_tensor(), whole)
        y.sum().backward()
        torch.testing.assert_close(split.grad.full_tensor(), argument.grad, rtol=1e-6, atol=0)
        torch.testing.assert_close(split_order.grad.full_tensor(), order.grad, rtol=1e-6, atol=0)
    kappa = distribute_tensor(x, mesh, [Shard(0)])
    for f in (
        lambda k: vmf_ops.vmf_kl_uniform(7, k),
        lambda k: vmf_ops.iv_ratio(2.5, k),
        lambda k: kl_between(7, k, 2 * k, 0.1 * k),
    ):
        assert f(kappa).placements == (Shard(0),) and torch.equal(f(kappa).full_tensor(), f(x))


def draws(mesh):
    """A shard's rows are those of the unsharded draw, however many draws there are of each; gradients add up."""
    loc = torch.cat(
        [normalize(torch.randn(5, 3, m, generator=torch.Generator().manual_seed(m)), dim=-1) for m in DIMS], -1
    )
    kappa = torch.linspace(1, 60, 3 * len(DIMS)).view(3, len(DIMS))
    weight = torch.randn(4, 5, 3, sum(DIMS), generator=torch.Generator().manual_seed(9))
    for dim in (0, 1):
        torch.manual_seed(7 if dist.get_rank() == 0 else 8)  # the first process's generator makes the key
        split_loc = distribute_tensor(loc, mesh, [Shard(dim)]).requires_grad_()
        split_kappa = distribute_tensor(kappa, mesh, [Replicate()]).requires_grad_()
        z = vmf_ops.sample_vmf(split_loc, split_kappa, DIMS, sample_shape=(4,))
        (z * distribute_tensor(weight, mesh, [Shard(dim + 1)])).sum().backward()
        torch.manual_seed(7)
        whole_loc, whole_kappa = loc.clone().requires_grad_(), kappa.clone().requires_grad_()
        whole = vmf_ops.sample_vmf(whole_loc, whole_kappa, DIMS, sample_shape=(4,))
        (whole * weight).sum().backward()
        assert z.placements == (Shard(dim + 1),) and torch.equal(z.full_tensor(), whole)
        torch.testing.assert_close(split_loc.grad.full_tensor(), whole_loc.grad)
        torch.testing.assert_close(split_kappa.grad.full_tensor(), whole_kappa.grad)


def refusals(mesh):
    loc, kappa = torch.eye(4)[None].repeat(2, 1, 1), torch.ones(2, 4, 1)
    split = distribute_tensor(kappa, mesh, [Shard(0)])
    with pytest.raises(ValueError, match="loc is sharded in its last dimension"):
        vmf_ops.sample_vmf(distribute_tensor(loc, mesh, [Shard(2)]), split)
    with pytest.raises(ValueError, match="one and the same dimension"):
        grid = init_device_mesh("cpu", (2, 1))
        vmf_ops.sample_vmf(distribute_tensor(loc, grid, [Shard(0), Shard(1)]), distribute_tensor(kappa, grid))
    with pytest.raises(ValueError, match="redistribute"):
        vmf_ops.sample_vmf(DTensor.from_local(loc, mesh, [Partial()]), split)
    with pytest.raises(TypeError, match="both as DTensors, got kappa as Tensor"):
        vmf_ops.sample_vmf(distribute_tensor(loc, mesh, [Shard(0)]), kappa)


def vae():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(sum(DIMS), 16), nn.ReLU(), nn.Linear(16, 12))
    return HypersphericalVAE(nn.Sequential(nn.Linear(12, 16), nn.ReLU()), decoder, ProductVMFLatent(16, DIMS))


def training(mesh):
    """A step of data-parallel and of fully sharded training changes every parameter alike in both processes."""
    x = (torch.rand(8, 12, generator=torch.Generator().manual_seed(dist.get_rank())) > 0.5).float()
    plain, sharded = vae(), vae()
    for layer in (sharded.encoder, sharded.latent.head, sharded.decoder):
        fully_shard(layer, mesh=mesh)
    for model in (DistributedDataParallel(plain), fully_shard(sharded, mesh=mesh)):
        torch.manual_seed(dist.get_rank())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        (-model(x).value.mean()).backward()
        optimizer.step()
    for (name, a), b in zip(plain.named_parameters(), sharded.parameters(), strict=True):
        torch.testing.assert_close(a.detach(), b.full_tensor().detach(), msg=name)
        first = a.detach().clone()
        dist.broadcast(first, 0)
        assert torch.equal(first, a) and not torch.equal(first, dict(vae().named_parameters())[name])


def process(rank, port):
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        for check in (elementwise, draws, refusals, training):
            check(mesh)
    finally:
        dist.destroy_process_group()


def test_two_processes():
    """All checks in one pair of processes, since most of their time is their start."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, (port,), nprocs=2)
