"""torch.distributions.kl_divergence of every pair of laws: vMF, uniform, and their products."""

import torch
from torch.distributions import register_kl

from ..vmf import kl_of_uniform, vmf_kl_uniform
from .divergence import kl_between
from .product import ProductHypersphericalUniform, ProductVonMisesFisher
from .spherical import check_same_dims
from .uniform import HypersphericalUniform
from .von_mises_fisher import VonMisesFisher


@register_kl(VonMisesFisher, VonMisesFisher)
def _(p, q):
    check_same_dims(p, q)
    distance = (p.loc - q.loc).square().sum(-1)
    return kl_between(p.event_shape[0], p.concentration, q.concentration, distance)


@register_kl(VonMisesFisher, HypersphericalUniform)
def _(p, q):
    check_same_dims(p, q)
    kl = vmf_kl_uniform(p.event_shape[0], p.concentration)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, VonMisesFisher)
def _(p, q):
    check_same_dims(p, q)
    kl = kl_of_uniform(q.event_shape[0], q.concentration)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, HypersphericalUniform)
@register_kl(ProductHypersphericalUniform, ProductHypersphericalUniform)
def _(p, q):
    check_same_dims(p, q)
    return p._filled(0.0, torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(ProductVonMisesFisher, ProductVonMisesFisher)
@register_kl(ProductVonMisesFisher, ProductHypersphericalUniform)
def _(p, q):
    return p.kl_per_shell(q).sum(-1)


@register_kl(ProductHypersphericalUniform, ProductVonMisesFisher)
def _(p, q):
    check_same_dims(p, q)
    kl = kl_of_uniform(q._m, q.concentration).sum(-1)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))
