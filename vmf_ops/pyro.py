"""The laws as Pyro's: pyro.sample, plate, mask, to_event, SVI and NUTS (pip install vmf_ops[pyro]).

Each is the law of that name in vmf_ops.distributions, with its arguments, and a pyro.distributions.TorchDistribution:

    z = pyro.sample("z", vmf_ops.pyro.VonMisesFisher(loc, concentration))

Unconstrained parameters: AutoDelta and pyro.param normalise a vector of R^m (transform_to). AutoNormal and NUTS need a
bijection, which normalising is not: they take stereographic coordinates, R^(m-1), of the sphere less the point -e1
(biject_to; its log Jacobian is counted). A posterior about -e1 is better turned away from it by a change of axes.
"""

from pyro.distributions import TorchDistribution

from . import distributions as laws

__all__ = [
    "HypersphericalUniform",
    "ProductHypersphericalUniform",
    "ProductVonMisesFisher",
    "VonMisesFisher",
    "VonMisesFisherMixture",
]


class VonMisesFisher(laws.VonMisesFisher, TorchDistribution):
    __doc__ = laws.VonMisesFisher.__doc__


class ProductVonMisesFisher(laws.ProductVonMisesFisher, TorchDistribution):
    __doc__ = laws.ProductVonMisesFisher.__doc__


class HypersphericalUniform(laws.HypersphericalUniform, TorchDistribution):
    __doc__ = laws.HypersphericalUniform.__doc__


class ProductHypersphericalUniform(laws.ProductHypersphericalUniform, TorchDistribution):
    __doc__ = laws.ProductHypersphericalUniform.__doc__


class VonMisesFisherMixture(laws.VonMisesFisherMixture, TorchDistribution):
    __doc__ = laws.VonMisesFisherMixture.__doc__
