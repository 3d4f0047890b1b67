"""The sphere and products of spheres as constraints, and the transforms to them.

transform_to normalises: any vector of R^m goes to a point, many to one. biject_to is stereographic projection from -e1:
R^(m-1) goes to all of the sphere but that point, one to one, with 0 at e1.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints, transform_to

from .._normalize import normalized


def off_unit(squares: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Whether a squared length differs from 1 by more than data normalised in single precision (or dtype) would."""
    if not squares.is_floating_point():
        return squares != 1
    tolerance = max(2e-5, 16 * torch.finfo(dtype or squares.dtype).eps)
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


def normalized_or_pole(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x/‖x‖ in each of the vectors side by side; for 0, e1 and its derivative."""
    parts = []
    for part in x.split(dims, -1):
        pole = torch.nn.functional.pad(torch.zeros_like(part[..., 1:]), (1, 0), value=1.0)
        parts.append(normalized(part + pole * (part == 0).all(-1, keepdim=True), part.shape[-1:]))
    return torch.cat(parts, -1)


class _ToSpheres(Transform):
    """From real vectors to one sphere, or to those of ambient dimensions dims side by side."""

    domain = constraints.real_vector

    def __init__(self, dims=None, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.dims = dims

    def with_cache(self, cache_size=1):
        return self if self._cache_size == cache_size else type(self)(self.dims, cache_size)

    @property
    def codomain(self):
        return unit_vector if self.dims is None else ProductOfUnitVectors(self.dims)

    def __eq__(self, other):
        return type(other) is type(self) and other.dims == self.dims


class Normalize(_ToSpheres):
    """x to x/‖x‖ in each of the vectors side by side, 0 to e1; not injective, its inverse is the identity."""

    def _call(self, x):
        return normalized_or_pole(x, self.dims or (x.shape[-1],))

    def _inverse(self, y):
        return y


transform_to.register(UnitVector, lambda constraint: Normalize())
transform_to.register(ProductOfUnitVectors, lambda constraint: Normalize(constraint.dims))


class Stereographic(_ToSpheres):
    """x in R^(m-1) to ((1-‖x‖²), 2x)/(1+‖x‖²) on the sphere of R^m, for each of the vectors side by side."""

    bijective = True

    def _parts(self, x, less):
        return x.split([m - less for m in self.dims], -1) if self.dims else [x]

    def _call(self, x):
        parts = []
        for part in self._parts(x, 1):
            scale = 2 / (1 + part.square().sum(-1, keepdim=True))  # 0, not NaN, where the square overflows
            parts.append(torch.cat([scale - 1, scale * part], -1))
        return torch.cat(parts, -1)

    def _inverse(self, z):
        parts = []
        for part in self._parts(z, 0):
            first, rest = part[..., :1], part[..., 1:]
            # 1 + z1 = ‖rest‖²/(1 - z1), without its cancellation next to -e1.
            parts.append(rest / torch.where(first > 0, 1 + first, rest.square().sum(-1, keepdim=True) / (1 - first)))
        return torch.cat(parts, -1)

    def log_abs_det_jacobian(self, x, z):
        """Of the surface measure over Lebesgue's: (m-1) log(2/(1+‖x‖²)), summed over the vectors."""
        parts = self._parts(x, 1)
        return sum(part.shape[-1] * (math.log(2) - part.square().sum(-1).log1p()) for part in parts)

    def forward_shape(self, shape):
        return shape[:-1] + (shape[-1] + len(self.dims or (0,)),)

    def inverse_shape(self, shape):
        return shape[:-1] + (shape[-1] - len(self.dims or (0,)),)


biject_to.register(UnitVector, lambda constraint: Stereographic())
biject_to.register(ProductOfUnitVectors, lambda constraint: Stereographic(constraint.dims))
