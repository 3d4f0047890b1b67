"""Products of von Mises-Fisher or uniform laws on spheres, points side by side."""

import torch
from torch import Tensor
from torch.distributions import constraints

from .._arguments import as_parameters, check_last, common_batch_shape, sizes
from .._density import log_density_ratio_of_product
from .._normalize import normalized, normalized_and_valid
from .._shells import check_dims, constant, repeat_by_shell
from ..sampling import draw
from ..vmf import coordinate_variances, log_sphere_area, vmf_kl_uniform, vmf_mean_length
from .constraints import ProductOfUnitVectors
from .divergence import kl_between
from .spherical import Spherical, check_same_dims, expanded, filled_like
from .uniform import HypersphericalUniform
from .von_mises_fisher import VonMisesFisher


def log_area(dims: tuple[int, ...]) -> float:
    return sum([log_sphere_area(m) for m in dims])


class ProductVonMisesFisher(Spherical):
    """Independent von Mises-Fisher laws on K spheres, points side by side: one event of Σm coordinates.

    Args:
        loc: mean directions side by side, (..., Σm). Each is divided by its length; `normalize=False` leaves that out,
            for directions that have length 1 already, and makes the constructor cost next to nothing.
        concentration: κ >= 0 of each shell, (..., K).
        dims: the K ambient dimensions m.

    Errors as VonMisesFisher; shapes that do not fit dims raise ValueError.
    """

    _parameters = ("loc", "concentration")

    def __init__(self, loc, concentration, dims, *, normalize=True, validate_args=None):
        self.dims = dims = check_dims(dims)
        loc, concentration = as_parameters(loc, concentration)
        if loc.dim() < 1 or loc.shape[-1] != sum(dims):
            raise ValueError(f"loc must have shape (..., {sum(dims)}) for dims {dims}, got {tuple(loc.shape)}")
        if concentration.dim() < 1 or concentration.shape[-1] != len(dims):
            raise ValueError(
                f"concentration must have shape (..., {len(dims)}) for dims {dims}, got {tuple(concentration.shape)}"
            )
        batch_shape = common_batch_shape(loc, concentration.shape[:-1])
        valid = None
        if normalize:
            loc, valid = normalized_and_valid(loc, dims, concentration)
        self.loc = expanded(loc, batch_shape + loc.shape[-1:])
        self.concentration = expanded(concentration, batch_shape + concentration.shape[-1:])
        self._initialise(batch_shape, loc.shape[-1:], validate_args, valid, normalize)

    @property
    def arg_constraints(self):
        nonnegative = constraints.independent(constraints.nonnegative, 1)
        return {"loc": ProductOfUnitVectors(self.dims), "concentration": nonnegative}

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self):
        return ProductOfUnitVectors(self.dims)

    @property
    def _m(self) -> Tensor:
        # In half precision a dimension would be rounded.
        dtype = torch.promote_types(self.concentration.dtype, torch.float32)
        return constant(self.dims, dtype, self.concentration.device)

    def _spread(self, per_shell: Tensor) -> Tensor:
        """(..., K) to (..., Σm): each shell's number at each of its coordinates."""
        return repeat_by_shell(per_shell, self.dims)

    @property
    def shells(self) -> tuple[VonMisesFisher, ...]:
        """The law of each shell."""
        return tuple(
            VonMisesFisher(loc, concentration, normalize=False, validate_args=False)
            for loc, concentration in zip(self.loc.split(self.dims, -1), self.concentration.unbind(-1), strict=True)
        )

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def mean(self) -> Tensor:
        """A_m(κ) μ of each shell."""
        return self._spread(vmf_mean_length(self._m, self.concentration)) * self.loc

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate."""
        across, along = (self._spread(each) for each in coordinate_variances(self._m, self.concentration))
        return torch.lerp(across, along, self.loc.square().clamp_max(1))

    def rsample(self, sample_shape=(), *, gradient="implicit", generator=None) -> Tensor:
        """Exact draws of all shells in one call; gradient and generator as in vmf_ops.sample_vmf."""
        return draw(self.loc, self.concentration, self.dims, self._batch_shape, sample_shape, gradient, generator)

    def log_ratio(self, value: Tensor) -> Tensor:
        """log of the density over that of the uniform law, with no term of the sphere's area in it."""
        check_last("value", value, self.event_shape[0])
        return log_density_ratio_of_product(self._m, self.concentration, value, self.loc, self._spread)

    def log_prob(self, value: Tensor) -> Tensor:
        """log density, the sum over the shells."""
        if self._validate_args:
            self._validate_sample(value)
        return self.log_ratio(value) - log_area(self.dims)

    def entropy(self) -> Tensor:
        """The sum of the shells' entropies."""
        return log_area(self.dims) - vmf_kl_uniform(self._m, self.concentration).sum(-1)

    def kl_per_shell(self, other=None) -> Tensor:
        """KL divergence of each shell, (..., K): to the uniform law, or to a product law of the same dims."""
        if other is None or isinstance(other, ProductHypersphericalUniform):
            if other is not None:
                check_same_dims(self, other)
                return vmf_kl_uniform(self._m, self.concentration).expand(
                    torch.broadcast_shapes(self.batch_shape, other.batch_shape) + (len(self.dims),)
                )
            return vmf_kl_uniform(self._m, self.concentration)
        if not isinstance(other, ProductVonMisesFisher):
            raise NotImplementedError(f"no KL divergence per shell to {type(other).__name__}")
        check_same_dims(self, other)
        squares = (self.loc - other.loc).square()
        distance = torch.stack([part.sum(-1) for part in squares.split(self.dims, -1)], -1)
        return kl_between(self._m, self.concentration, other.concentration, distance)


class ProductHypersphericalUniform(Spherical):
    """Independent uniform laws on spheres of ambient dimensions `dims`, points side by side."""

    arg_constraints: dict = {}

    def __init__(self, dims, batch_shape=(), *, dtype=None, device=None, validate_args=None):
        self.dims = check_dims(dims)
        self._like = torch.empty(0, dtype=dtype or torch.get_default_dtype(), device=device)
        self._initialise(torch.Size(batch_shape), torch.Size((sum(self.dims),)), validate_args)

    support = ProductVonMisesFisher.support
    _filled, mode = HypersphericalUniform._filled, HypersphericalUniform.mode

    def __repr__(self):
        return f"ProductHypersphericalUniform({self.dims}, batch_shape={tuple(self.batch_shape)})"

    @property
    def shells(self) -> tuple[HypersphericalUniform, ...]:
        """The law of each shell."""
        options = {"dtype": self._like.dtype, "device": self._like.device, "validate_args": False}
        return tuple(HypersphericalUniform(m, self.batch_shape, **options) for m in self.dims)

    @property
    def mean(self) -> Tensor:
        """0."""
        return self._filled(0.0, self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """1/m at the coordinates of each shell."""
        values = tuple(1 / m for m in self.dims for _ in range(m))
        variance = constant(values, self._like.dtype, self._like.device)
        return variance.expand(self.batch_shape + self.event_shape).clone()

    def rsample(self, sample_shape=(), *, generator=None) -> Tensor:
        """Normalised normal vectors; there is nothing to differentiate."""
        like = self._like
        shape = self._extended_shape(sizes(sample_shape))
        return normalized(torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator), self.dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the sum of the log areas."""
        if self._validate_args:
            self._validate_sample(value)
        return filled_like(value, self, -log_area(self.dims))

    def entropy(self) -> Tensor:
        """The sum of the log areas."""
        return self._filled(log_area(self.dims), self.batch_shape)
