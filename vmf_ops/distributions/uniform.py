"""The uniform law on one sphere."""

import torch
from torch import Tensor

from .._arguments import rounded, sizes
from .._normalize import normalized
from .._shells import check_dims
from ..vmf import log_sphere_area
from .constraints import unit_vector
from .spherical import Spherical, filled_like


class HypersphericalUniform(Spherical):
    """Uniform law on the unit sphere of R^m, m >= 2; `batch_shape`, `dtype` and `device` are those of its samples."""

    support = unit_vector
    arg_constraints: dict = {}

    def __init__(self, m, batch_shape=(), *, dtype=None, device=None, validate_args=None):
        (m,) = check_dims((m,))
        # An empty tensor carries dtype and device, so that `to` finds them.
        self._like = torch.empty(0, dtype=dtype or torch.get_default_dtype(), device=device)
        self._initialise(torch.Size(batch_shape), torch.Size((m,)), validate_args)

    def __repr__(self):
        return f"HypersphericalUniform({self.event_shape[0]}, batch_shape={tuple(self.batch_shape)})"

    def _filled(self, value: float, shape) -> Tensor:
        return torch.full(shape, rounded(value, self._like.dtype), dtype=self._like.dtype, device=self._like.device)

    @property
    def mode(self) -> Tensor:
        """NaN: no point is likelier than another (as torch's Uniform has it)."""
        return self._filled(float("nan"), self.batch_shape + self.event_shape)

    @property
    def mean(self) -> Tensor:
        """0."""
        return self._filled(0.0, self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """1/m in every coordinate."""
        return self._filled(1 / self.event_shape[0], self.batch_shape + self.event_shape)

    @property
    def covariance_matrix(self) -> Tensor:
        """I/m, (..., m, m)."""
        m = self.event_shape[0]
        identity = torch.eye(m, dtype=self._like.dtype, device=self._like.device) / m
        return identity.expand(self.batch_shape + (m, m))

    def rsample(self, sample_shape=(), *, generator=None) -> Tensor:
        """Normalised normal vectors; there is nothing to differentiate."""
        shape = self._extended_shape(sizes(sample_shape))
        like = self._like
        z = torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)
        return normalized(z, (shape[-1],))

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the log area of the sphere, at every unit vector."""
        if self._validate_args:
            self._validate_sample(value)
        return filled_like(value, self, -log_sphere_area(self.event_shape[0]))

    def entropy(self) -> Tensor:
        """The log area of the sphere."""
        return self._filled(log_sphere_area(self.event_shape[0]), self.batch_shape)
