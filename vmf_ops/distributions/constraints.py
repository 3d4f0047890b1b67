"""The sphere and products of spheres as constraints, and the transform that normalises to them."""

import torch
from torch import Tensor
from torch.distributions import Transform, constraints, transform_to

from .._normalize import normalized


def off_unit(squares: Tensor) -> Tensor:
    """Whether a squared length differs from 1 by more than data normalised in single precision would."""
    if not squares.is_floating_point():
        return squares != 1
    tolerance = max(2e-5, 16 * torch.finfo(squares.dtype).eps)
    return ~((squares - 1).abs() <= tolerance)


class UnitVector(constraints.Constraint):
    """Vectors of length 1, to 1e-5 (half and bfloat16: 8 eps)."""

    event_dim = 1

    def check(self, value):
        return ~off_unit(value.square().sum(-1))

    def __eq__(self, other):
        return type(other) is type(self)

    def __hash__(self):
        return hash(type(self))


class ProductOfUnitVectors(constraints.Constraint):
    """Vectors of length 1 side by side, the k-th of dims[k] coordinates."""

    event_dim = 1

    def __init__(self, dims):
        self.dims = tuple(dims)

    def check(self, value):
        if value.shape[-1] != sum(self.dims):
            return torch.zeros(value.shape[:-1], dtype=torch.bool, device=value.device)
        return ~off_unit(torch.stack([part.sum(-1) for part in value.square().split(self.dims, -1)])).any(0)

    def __eq__(self, other):
        return type(other) is type(self) and other.dims == self.dims

    def __hash__(self):
        return hash((type(self), self.dims))

    def __repr__(self):
        return f"ProductOfUnitVectors(dims={self.dims})"


unit_vector = UnitVector()
product_of_unit_vectors = ProductOfUnitVectors


class Normalize(Transform):
    """x to x/‖x‖ in each of the vectors side by side; not injective, its inverse is the identity."""

    domain = constraints.real_vector

    def __init__(self, dims=None, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.dims = dims

    @property
    def codomain(self):
        return unit_vector if self.dims is None else ProductOfUnitVectors(self.dims)

    def _call(self, x):
        return normalized(x, self.dims or (x.shape[-1],))

    def _inverse(self, y):
        return y

    def __eq__(self, other):
        return isinstance(other, Normalize) and other.dims == self.dims


transform_to.register(UnitVector, lambda constraint: Normalize())
transform_to.register(ProductOfUnitVectors, lambda constraint: Normalize(constraint.dims))
