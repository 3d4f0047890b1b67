"""Small calls, where Python is the price: 100 rows at m = 16, beside torch's own of the same kind."""

import torch
from torch.distributions import Normal, kl_divergence

import vmf_ops
from vmf_ops.distributions import HypersphericalUniform, VonMisesFisher

from .timing import Case

TITLE, UNIT = "Calls on 100 rows, m = 16, float32", ("us per call", 1e-6)


def cases():
    loc, kappa = torch.nn.functional.normalize(torch.randn(100, 16), dim=-1), torch.full((100,), 20.0)
    mean, scale = torch.randn(100, 16), torch.rand(100, 16) + 0.5
    points, law, normal, uniform = (
        loc.flip(0),
        VonMisesFisher(loc, kappa),
        Normal(mean, scale),
        HypersphericalUniform(16),
    )
    standard = Normal(torch.zeros_like(mean), torch.ones_like(scale))
    leaves = [t.clone().requires_grad_() for t in (loc, kappa, mean, scale)]
    loc_g, kappa_g, mean_g, scale_g = leaves
    column = kappa.unsqueeze(-1).requires_grad_()

    def gradients(value, *inputs):
        return torch.autograd.grad(value.sum(), inputs)

    rows = {
        "log_iv / i0e": (lambda: vmf_ops.log_iv(7.0, kappa), lambda: torch.special.i0e(kappa)),
        "constructor / Normal's": (lambda: VonMisesFisher(loc, kappa), lambda: Normal(mean, scale)),
        "constructor, unvalidated": (
            lambda: VonMisesFisher(loc, kappa, validate_args=False),
            lambda: Normal(mean, scale, validate_args=False),
        ),
        "sample_vmf / mean + scale randn": (
            lambda: vmf_ops.sample_vmf(loc, kappa.unsqueeze(-1)),
            lambda: mean + scale * torch.randn(100, 16),
        ),
        "the same, forward + backward": (
            lambda: gradients(vmf_ops.sample_vmf(loc_g, column), loc_g, column),
            lambda: gradients(mean_g + scale_g * torch.randn(100, 16), mean_g, scale_g),
        ),
        "law and rsample, forward + backward": (
            lambda: gradients(VonMisesFisher(loc_g, kappa_g).rsample(), loc_g, kappa_g),
            lambda: gradients(Normal(mean_g, scale_g).rsample(), mean_g, scale_g),
        ),
        "log_prob": (lambda: law.log_prob(points), lambda: normal.log_prob(mean).sum(-1)),
        "kl_divergence": (lambda: kl_divergence(law, uniform), lambda: kl_divergence(normal, standard).sum(-1)),
    }
    for name, (ours, theirs) in rows.items():
        yield Case(name, {"vmf_ops": ours, "torch": theirs})
