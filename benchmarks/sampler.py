"""sample_vmf beside torch.randn of the same shape (the price of a Gaussian), other samplers and scipy's."""

from functools import partial

import scipy.stats
import torch

import vmf_ops

from .peers import on_each_shell, power_spherical, s_vae
from .timing import Case

TITLE, UNIT = "Sampling, kappa = 50", ("ns per coordinate", 1e-9)
SHELLS = ((3,), (11,), (41,), (512,), (16, 11, 5, 4, 3, 2), (2,) * 20)
KAPPA = 50.0


def shells(dims, rows, dtype):
    parts = torch.randn(rows, sum(dims), dtype=dtype).split(dims, -1)
    loc = torch.cat([part / part.norm(dim=-1, keepdim=True) for part in parts], -1)
    return loc, torch.full((rows, len(dims)), KAPPA, dtype=dtype)


def forward_and_backward(loc, kappa, dims):
    loc, kappa = loc.clone().requires_grad_(), kappa.clone().requires_grad_()
    return lambda: torch.autograd.grad(vmf_ops.sample_vmf(loc, kappa, dims).sum(), (loc, kappa))


def cases():
    for dtype in (torch.float32, torch.float64):
        for dims in SHELLS:
            rows = max(200, 400_000 // sum(dims))
            loc, kappa = shells(dims, rows, dtype)
            name = "m = " + (", ".join(map(str, dims)) if len(dims) < 8 else f"{dims[0]} ({len(dims)} times)")
            contenders = {
                "vmf_ops": lambda loc=loc, kappa=kappa, dims=dims: vmf_ops.sample_vmf(loc, kappa, dims),
                "vmf_ops forward + backward": forward_and_backward(loc, kappa, dims),
                "torch randn": lambda loc=loc: torch.randn(loc.shape, dtype=loc.dtype),
            }
            for peer in (power_spherical, s_vae):
                contenders[peer.__name__] = partial(on_each_shell, peer, loc, kappa, dims)
            if len(dims) == 1:  # scipy has one shell and one mean direction for all rows
                law = scipy.stats.vonmises_fisher(loc[0].double().numpy() / loc[0].double().norm().item(), KAPPA)
                contenders["scipy"] = lambda law=law, n=rows: law.rvs(n)
            yield Case(f"{name}, {str(dtype).removeprefix('torch.')}, {rows} rows", contenders, loc.numel())
