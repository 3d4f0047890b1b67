"""The von Mises-Fisher and uniform laws on spheres and products of spheres, as torch.distributions.

Densities are with respect to the surface measure of the unit sphere of R^m, and m, `dims` and the last axis of every
point are ambient dimensions: m = 3 is the ordinary sphere. Every class validates its arguments as torch.distributions
does (`validate_args=False` skips that), and works inside `torch.distributions.Independent`, `torch.func.vmap` and
`torch.compile(fullgraph=True)`, where torch cannot validate and nothing is checked by default.

    vMF(z; μ, κ) = C_m(κ) exp(κ μᵀz)            Mardia and Jupp, Directional Statistics (2000), section 9.3

log C_m(κ) + κ μᵀz is never formed: both parts are of size κ. It is log p(μ) - κ‖μ-z‖²/2, whose first term, the log
density at the mode, is of size m log κ.
"""

from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints, register_kl, transform_to

from ._shells import check_dims, constant, shell_of_coordinate
from .sampling import sample_vmf
from .special import iv_ratio_c
from .vmf import (
    kl_of_uniform,
    kl_uniform_slope,
    log_density_at_mode,
    log_mode_to_uniform,
    log_sphere_area,
    mean_length_curvature,
    mean_length_slope,
    vmf_concentration,
    vmf_kl_uniform,
    vmf_log_normalizer,
    vmf_mean_length,
)

__all__ = [
    "HypersphericalUniform",
    "ProductHypersphericalUniform",
    "ProductVonMisesFisher",
    "VonMisesFisher",
    "product_of_unit_vectors",
    "unit_vector",
    "vmf_nll_embedding_loss",
    "vmf_nll_loss",
]


# ---- Constraints ----


def _off_unit(squares: Tensor) -> Tensor:
    """Whether a squared length differs from 1 by more than data normalised in single precision would."""
    if not squares.is_floating_point():
        return squares != 1
    tolerance = max(2e-5, 16 * torch.finfo(squares.dtype).eps)
    return ~((squares - 1).abs() <= tolerance)


class _UnitVector(constraints.Constraint):
    """Vectors of length 1, to 1e-5 (half and bfloat16: 8 eps)."""

    event_dim = 1

    def check(self, value):
        return ~_off_unit(value.square().sum(-1))

    def __eq__(self, other):
        return type(other) is type(self)

    def __hash__(self):
        return hash(type(self))


class _ProductOfUnitVectors(constraints.Constraint):
    """Vectors of length 1 side by side, the k-th of dims[k] coordinates."""

    event_dim = 1

    def __init__(self, dims):
        self.dims = tuple(dims)

    def check(self, value):
        if value.shape[-1] != sum(self.dims):
            return torch.zeros(value.shape[:-1], dtype=torch.bool, device=value.device)
        return ~_off_unit(torch.stack([part.sum(-1) for part in value.square().split(self.dims, -1)])).any(0)

    def __eq__(self, other):
        return type(other) is type(self) and other.dims == self.dims

    def __hash__(self):
        return hash((type(self), self.dims))

    def __repr__(self):
        return f"ProductOfUnitVectors(dims={self.dims})"


unit_vector = _UnitVector()
product_of_unit_vectors = _ProductOfUnitVectors


class _Normalize(Transform):
    """x to x/‖x‖ in each of the vectors side by side; not injective, its inverse is the identity."""

    domain = constraints.real_vector

    def __init__(self, dims=None, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.dims = dims

    @property
    def codomain(self):
        return unit_vector if self.dims is None else _ProductOfUnitVectors(self.dims)

    def _call(self, x):
        return _normalized(x, self.dims or (x.shape[-1],))

    def _inverse(self, y):
        return y

    def __eq__(self, other):
        return isinstance(other, _Normalize) and other.dims == self.dims


transform_to.register(_UnitVector, lambda constraint: _Normalize())
transform_to.register(_ProductOfUnitVectors, lambda constraint: _Normalize(constraint.dims))


# ---- Shells side by side ----


def _normalized(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    if len(dims) == 1:
        # The largest coordinate as unit, so that no square overflows or vanishes.
        x = x / x.detach().abs().amax(-1, keepdim=True)
        # vector_norm sums 1e6 coordinates to 1e-5 in float32; a square sum of them overflows in half.
        squares = x.square().sum(-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        return (x / squares.sqrt()).to(x.dtype)
    return torch.cat([_normalized(part, (part.shape[-1],)) for part in x.split(dims, -1)], -1)


def _log_area(dims: tuple[int, ...]) -> float:
    return sum([log_sphere_area(m) for m in dims])


def _check_last(name: str, value: Tensor, size: int):
    """A last dimension of 1 would be broadcast without a word."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    if value.dim() < 1 or value.shape[-1] != size:
        raise ValueError(f"{name} must have shape (..., {size}), got {tuple(value.shape)}")


def _validation(validate_args):
    """None is torch's default, but for tracing and vmap, where a check of the data cannot be expressed."""
    if validate_args is None and (
        torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return False
    return validate_args


def _as_concentration(concentration, loc: Tensor) -> Tensor:
    if not isinstance(loc, Tensor) or not loc.is_floating_point():
        given = loc.dtype if isinstance(loc, Tensor) else type(loc).__name__
        raise TypeError(f"loc must be a floating-point tensor, got {given}")
    if isinstance(concentration, Real):
        return torch.full((), concentration, dtype=loc.dtype, device=loc.device)
    if not isinstance(concentration, Tensor):
        raise TypeError(f"concentration must be a number or a tensor, got {type(concentration).__name__}")
    if concentration.dtype != loc.dtype or concentration.device != loc.device:
        raise TypeError(
            f"loc and concentration must share dtype and device, got {loc.dtype} on {loc.device} and "
            f"{concentration.dtype} on {concentration.device}"
        )
    return concentration


def _batch_shape(loc: Tensor, concentration_shape: torch.Size) -> torch.Size:
    if loc.shape[:-1] == concentration_shape:
        return concentration_shape
    try:
        return torch.broadcast_shapes(loc.shape[:-1], concentration_shape)
    except RuntimeError:
        raise ValueError(
            f"the batch shapes of loc {tuple(loc.shape)} and of the concentration do not broadcast: "
            f"{tuple(loc.shape[:-1])} and {tuple(concentration_shape)}"
        ) from None


def _filled_like(value: Tensor, law: Distribution, number: float) -> Tensor:
    """number for each point of `value`, in its dtype if that has fractions, else the law's."""
    dtype = value.dtype if value.is_floating_point() else law._like.dtype
    return value.new_full(torch.broadcast_shapes(value.shape[:-1], law.batch_shape), number, dtype=dtype)


def _expanded(t: Tensor, shape: torch.Size) -> Tensor:
    return t if t.shape == shape else t.expand(shape)


class _Spherical(Distribution):
    """What the four laws share: moves between devices and dtypes, and samples without a gradient."""

    has_rsample = True
    _parameters: tuple[str, ...] = ()

    def sample(self, sample_shape=(), **options) -> Tensor:
        """Draws of shape sample_shape + batch_shape + event_shape, without a gradient; options as in rsample."""
        with torch.no_grad():
            return self.rsample(sample_shape, **options)

    def _rebuilt(self, change, batch_shape, instance=None):
        new = self._get_checked_instance(type(self), instance)
        for name, value in self.__dict__.items():
            if not name.startswith("_batch_shape") and name != "_validate_args":
                new.__dict__[name] = change(name, value) if isinstance(value, Tensor) else value
        Distribution.__init__(new, batch_shape, self._event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def to(self, *args, **kwargs):
        """The same law with its tensors moved or cast as by Tensor.to."""
        return self._rebuilt(lambda name, value: value.to(*args, **kwargs), self._batch_shape)

    def expand(self, batch_shape, _instance=None):
        batch_shape = torch.Size(batch_shape)
        if torch.broadcast_shapes(self._batch_shape, batch_shape) != batch_shape:
            raise ValueError(f"a batch of shape {tuple(self._batch_shape)} does not expand to {tuple(batch_shape)}")
        kept = {name: getattr(self, name).dim() - len(self._batch_shape) for name in self._parameters}

        def expanded(name, value):
            if name not in kept:
                return value
            return value.expand(batch_shape + value.shape[value.dim() - kept[name] :])

        return self._rebuilt(expanded, batch_shape, _instance)


# ---- One sphere ----


class VonMisesFisher(_Spherical):
    """von Mises-Fisher law on the unit sphere of R^m, with density C_m(κ) exp(κ μᵀz).

    Args:
        loc: mean direction μ, (..., m) with m >= 2. It is divided by its length, so any nonzero vector will do; with
            `normalize=False` it must have length 1 already.
        concentration: κ >= 0, a number or a tensor that broadcasts with loc's batch shape; 0 is the uniform law.

    Errors: TypeError for other dtypes than floating point, or different ones; ValueError for shapes that do not
    broadcast, and, validated, for a loc of length 0 and for negative or NaN values.

    `log_prob` keeps its digits for any κ (here 1e8 in single precision, see vmf_ops.vmf for the measured errors):

    >>> import torch
    >>> law = VonMisesFisher(torch.tensor([0.0, 0.0, 2.0]), 1e8)
    >>> law.mode, law.log_prob(law.mode)
    (tensor([0., 0., 1.]), tensor(16.5828))
    """

    support = unit_vector
    arg_constraints = {"loc": unit_vector, "concentration": constraints.nonnegative}
    _parameters = ("loc", "concentration")

    def __init__(self, loc, concentration, *, normalize=True, validate_args=None):
        concentration = _as_concentration(concentration, loc)
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(f"loc must have shape (..., m) with m >= 2, got {tuple(loc.shape)}")
        batch_shape = _batch_shape(loc, concentration.shape)
        m = loc.shape[-1]
        if normalize:
            loc = _normalized(loc, (m,))
        self.loc = _expanded(loc, batch_shape + (m,))
        self.concentration = _expanded(concentration, batch_shape)
        super().__init__(batch_shape, torch.Size((m,)), validate_args=_validation(validate_args))

    @property
    def mode(self) -> Tensor:
        """μ, at κ = 0 as good as any point."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        """A_m(κ) μ, inside the sphere."""
        return vmf_mean_length(self.event_shape[0], self.concentration).unsqueeze(-1) * self.loc

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Variance of each coordinate across μ and along it: A/κ and A', without a division by κ."""
        m, along = self.event_shape[0], mean_length_slope(self.event_shape[0], self.concentration)
        complement = iv_ratio_c(m / 2, self.concentration)
        across = (complement * (2 - complement) - along) / (m - 1)
        return across.unsqueeze(-1), along.unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate: the diagonal of the covariance matrix."""
        across, along = self._moments()
        square = self.loc.square()
        return across * (1 - square).clamp_min(0) + along * square

    @property
    def covariance_matrix(self) -> Tensor:
        """A_m(κ)/κ (I - μμᵀ) + A_m'(κ) μμᵀ, (..., m, m)."""
        across, along = self._moments()
        identity = torch.eye(self.event_shape[0], dtype=self.loc.dtype, device=self.loc.device)
        outer = self.loc.unsqueeze(-1) * self.loc.unsqueeze(-2)
        return across.unsqueeze(-1) * (identity - outer) + along.unsqueeze(-1) * outer

    def rsample(self, sample_shape=(), *, gradient="implicit", generator=None) -> Tensor:
        """Exact draws, differentiable in loc and concentration; gradient and generator as in vmf_ops.sample_vmf."""
        return sample_vmf(
            self.loc,
            self.concentration.unsqueeze(-1),
            sample_shape=tuple(sample_shape),
            gradient=gradient,
            generator=generator,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """log density at unit vectors, batch_shape and leading axes of `value` broadcast."""
        if self._validate_args:
            self._validate_sample(value)
        _check_last("value", value, self.event_shape[0])
        distance = (value - self.loc).square().sum(-1)
        return log_density_at_mode(self.event_shape[0], self.concentration) - 0.5 * self.concentration * distance

    def entropy(self) -> Tensor:
        """-E log p, in nats; the log area of the sphere at κ = 0."""
        return log_sphere_area(self.event_shape[0]) - vmf_kl_uniform(self.event_shape[0], self.concentration)

    @classmethod
    def fit(cls, z: Tensor, weights: Tensor | None = None, *, bias_correction: bool = False) -> "VonMisesFisher":
        """Maximum likelihood of μ and κ from unit vectors z (..., n, m), weights >= 0 broadcasting with (..., n).

        μ is the direction of the mean and κ solves A_m(κ) = R, R the length of the (weighted) mean: too large on
        average, for m = 3 by 2κ/n. With `bias_correction`, κ maximises the marginal likelihood of R instead, which
        solves A_m(κ) = R A_m(nRκ) and is 0 where nR² <= 1 (Schou, Biometrika 65 (1978) 369), and is then divided by
        1 - A''/(2(n-1)κA'²), the bias of second order that is left, exact for large κ; for weights, n = (Σw)²/Σw².

        Computed in float64, as 1 - R is lost in float32 for κ > 1e6; the result has the dtype of z. A sample of mean 0
        gives κ = 0 and NaN for loc, one of equal points κ = inf, or what their rounding leaves. Where arguments are
        validated, points that are no unit vectors and negative weights raise ValueError. Differentiable in z and
        weights, but for the correction.
        """
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise TypeError("z must be a floating-point tensor of unit vectors")
        if z.dim() < 2 or z.shape[-1] < 2 or z.shape[-2] < 1:
            raise ValueError(f"z must have shape (..., n, m) with n >= 1 and m >= 2, got {tuple(z.shape)}")
        validated = _validation(None) is None
        if validated and not unit_vector.check(z).all():
            raise ValueError("z must hold unit vectors")
        m, points = z.shape[-1], z.double()
        if weights is None:
            weights = torch.ones(z.shape[-2], dtype=torch.float64, device=z.device)
        elif not isinstance(weights, Tensor):
            raise TypeError(f"weights must be a tensor, not {type(weights).__name__}")
        elif weights.dim() < 1 or weights.shape[-1] not in (1, z.shape[-2]):
            raise ValueError(f"weights {tuple(weights.shape)} must broadcast with {tuple(z.shape[:-1])}")
        elif validated and not (weights >= 0).all():
            raise ValueError("weights must be nonnegative")
        weights = weights.double().expand(torch.broadcast_shapes(weights.shape, z.shape[:-1]))
        total = weights.sum(-1)
        share = (weights / total.unsqueeze(-1)).unsqueeze(-1)
        mean = (share * points).sum(-2)
        loc = _normalized(mean, (m,))
        # 1 - R is half the mean square distance from μ, with every digit.
        complement = 0.5 * (share.squeeze(-1) * (points - loc.unsqueeze(-2)).square().sum(-1)).sum(-1)
        none = (mean == 0).all(-1)  # where loc is NaN; other NaNs come from the data
        mean_length = torch.where(none, torch.zeros_like(complement), 1 - complement).clamp(0, 1)
        concentration = vmf_concentration(m, mean_length)
        if bias_correction:
            n = total.square() / weights.square().sum(-1)
            concentration = _unbiased_concentration(m, n, mean_length, concentration)
        return cls(loc.to(z.dtype), concentration.to(z.dtype), normalize=False, validate_args=False)


@torch.no_grad()
def _unbiased_concentration(m: int, n: Tensor, mean_length: Tensor, upper: Tensor) -> Tensor:
    """The root κ of A(κ) = R A(nRκ) in (0, upper), by bisection, 0 where nR² <= 1; less its second-order bias."""
    low, high = torch.zeros_like(upper), upper
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = mean_length * vmf_mean_length(m, n * mean_length * middle) > vmf_mean_length(m, middle)
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    kappa = 0.5 * (low + high)
    excess = -mean_length_curvature(m, kappa) / (2 * (n - 1) * kappa * mean_length_slope(m, kappa).square())
    known = (n * mean_length.square() > 1) & upper.isfinite()
    return torch.where(known, kappa / (1 + excess), torch.where(upper.isinf(), upper, 0))


class HypersphericalUniform(_Spherical):
    """Uniform law on the unit sphere of R^m, m >= 2; `batch_shape`, `dtype` and `device` are those of its samples."""

    support = unit_vector
    arg_constraints: dict = {}

    def __init__(self, m, batch_shape=(), *, dtype=None, device=None, validate_args=None):
        (m,) = check_dims((m,))
        # An empty tensor carries dtype and device, so that `to` finds them.
        self._like = torch.empty(0, dtype=dtype or torch.get_default_dtype(), device=device)
        super().__init__(torch.Size(batch_shape), torch.Size((m,)), validate_args=_validation(validate_args))

    def __repr__(self):
        return f"HypersphericalUniform({self.event_shape[0]}, batch_shape={tuple(self.batch_shape)})"

    def _filled(self, value: float, shape) -> Tensor:
        return torch.full(shape, value, dtype=self._like.dtype, device=self._like.device)

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
        shape = self._extended_shape(sample_shape)
        like = self._like
        z = torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)
        return _normalized(z, (shape[-1],))

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the log area of the sphere, at every unit vector."""
        if self._validate_args:
            self._validate_sample(value)
        return _filled_like(value, self, -log_sphere_area(self.event_shape[0]))

    def entropy(self) -> Tensor:
        """The log area of the sphere."""
        return self._filled(log_sphere_area(self.event_shape[0]), self.batch_shape)


# ---- Products of spheres ----


class ProductVonMisesFisher(_Spherical):
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
        concentration = _as_concentration(concentration, loc)
        if loc.dim() < 1 or loc.shape[-1] != sum(dims):
            raise ValueError(f"loc must have shape (..., {sum(dims)}) for dims {dims}, got {tuple(loc.shape)}")
        if concentration.dim() < 1 or concentration.shape[-1] != len(dims):
            raise ValueError(
                f"concentration must have shape (..., {len(dims)}) for dims {dims}, got {tuple(concentration.shape)}"
            )
        batch_shape = _batch_shape(loc, concentration.shape[:-1])
        if normalize:
            loc = _normalized(loc, dims)
        self.loc = _expanded(loc, batch_shape + loc.shape[-1:])
        self.concentration = _expanded(concentration, batch_shape + concentration.shape[-1:])
        super().__init__(batch_shape, loc.shape[-1:], validate_args=_validation(validate_args))

    @property
    def arg_constraints(self):
        nonnegative = constraints.independent(constraints.nonnegative, 1)
        return {"loc": _ProductOfUnitVectors(self.dims), "concentration": nonnegative}

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self):
        return _ProductOfUnitVectors(self.dims)

    @property
    def _m(self) -> Tensor:
        # In half precision a dimension would be rounded.
        dtype = torch.promote_types(self.concentration.dtype, torch.float32)
        return constant(self.dims, dtype, self.concentration.device)

    def _spread(self, per_shell: Tensor) -> Tensor:
        """(..., K) to (..., Σm): each shell's number at each of its coordinates."""
        return per_shell.index_select(-1, shell_of_coordinate(self.dims, per_shell.device))

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
        return torch.cat([shell.variance for shell in self.shells], -1)

    def rsample(self, sample_shape=(), *, gradient="implicit", generator=None) -> Tensor:
        """Exact draws of all shells in one call; gradient and generator as in vmf_ops.sample_vmf."""
        return sample_vmf(
            self.loc,
            self.concentration,
            self.dims,
            sample_shape=tuple(sample_shape),
            gradient=gradient,
            generator=generator,
        )

    def log_ratio(self, value: Tensor) -> Tensor:
        """log of the density over that of the uniform law, with no term of the sphere's area in it."""
        _check_last("value", value, self.event_shape[0])
        distance = self._spread(self.concentration) * (value - self.loc).square()
        return log_mode_to_uniform(self._m, self.concentration).sum(-1) - 0.5 * distance.sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log density, the sum over the shells."""
        if self._validate_args:
            self._validate_sample(value)
        return self.log_ratio(value) - _log_area(self.dims)

    def entropy(self) -> Tensor:
        """The sum of the shells' entropies."""
        return _log_area(self.dims) - vmf_kl_uniform(self._m, self.concentration).sum(-1)

    def kl_per_shell(self, other=None) -> Tensor:
        """KL divergence of each shell, (..., K): to the uniform law, or to a product law of the same dims."""
        if other is None or isinstance(other, ProductHypersphericalUniform):
            if other is not None:
                _check_same_dims(self, other)
                return vmf_kl_uniform(self._m, self.concentration).expand(
                    torch.broadcast_shapes(self.batch_shape, other.batch_shape) + (len(self.dims),)
                )
            return vmf_kl_uniform(self._m, self.concentration)
        if not isinstance(other, ProductVonMisesFisher):
            raise NotImplementedError(f"no KL divergence per shell to {type(other).__name__}")
        _check_same_dims(self, other)
        squares = (self.loc - other.loc).square()
        distance = torch.stack([part.sum(-1) for part in squares.split(self.dims, -1)], -1)
        return _kl_vmf_vmf(self._m, self.concentration, other.concentration, distance)


class ProductHypersphericalUniform(_Spherical):
    """Independent uniform laws on spheres of ambient dimensions `dims`, points side by side."""

    arg_constraints: dict = {}

    def __init__(self, dims, batch_shape=(), *, dtype=None, device=None, validate_args=None):
        self.dims = check_dims(dims)
        self._like = torch.empty(0, dtype=dtype or torch.get_default_dtype(), device=device)
        super().__init__(
            torch.Size(batch_shape), torch.Size((sum(self.dims),)), validate_args=_validation(validate_args)
        )

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
        shape = self._extended_shape(sample_shape)
        return _normalized(torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator), self.dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the sum of the log areas."""
        if self._validate_args:
            self._validate_sample(value)
        return _filled_like(value, self, -_log_area(self.dims))

    def entropy(self) -> Tensor:
        """The sum of the log areas."""
        return self._filled(_log_area(self.dims), self.batch_shape)


# ---- KL divergences ----

# Gauss-Legendre on [0, 1]: nodes and weights, 12 of them and, single precision, 6; and the quotient of concentrations
# up to which they are used.
_LEGENDRE = []
for _points, _widest in ((12, 3.0), (6, 4.0)):
    _nodes, _weights = np.polynomial.legendre.leggauss(_points)
    _LEGENDRE.append((tuple((0.5 + 0.5 * _nodes).tolist()), tuple((0.5 * _weights).tolist()), _widest))


def _check_same_dims(p, q):
    if getattr(p, "dims", p.event_shape) != getattr(q, "dims", q.event_shape):
        raise ValueError(
            f"KL divergence of laws on different spheres: {getattr(p, 'dims', tuple(p.event_shape))} and "
            f"{getattr(q, 'dims', tuple(q.event_shape))}"
        )


def _kl_vmf_vmf(m, p: Tensor, q: Tensor, distance: Tensor) -> Tensor:
    """KL of vMF(μ_p, p) to vMF(μ_q, q) for concentrations p and q, distance = ‖μ_p - μ_q‖²: never negative.

    It is the integral of (q - t) A'(t) over t from p to q, + q A(p) distance/2. With KL_u, that to the uniform law, the
    integral is KL_u(p) - KL_u(q) + q (A(q) - A(p)). This cancels where p and q are near; there it is taken by
    Gauss-Legendre over log t, in which the poles of A', on the imaginary axis, are π/2 away whatever p and q.

    Accuracy: 20 eps relative, 5 eps for quotients of p and q up to 2.5; half is computed in float32. inf where one of
    them alone is infinite.
    """
    dtype = p.dtype
    if dtype in (torch.float16, torch.bfloat16):
        p, q, distance = p.float(), q.float(), distance.float()
    *rule, widest = _LEGENDRE[p.dtype != torch.float64]
    shape = (-1,) + (1,) * len(torch.broadcast_shapes(p.shape, q.shape))
    nodes, weights = (constant(numbers, p.dtype, p.device).view(shape) for numbers in rule)
    near = (p < widest * q) & (q < widest * p) & (torch.maximum(p, q) < torch.inf)
    a, b = (torch.where(near, t, torch.ones_like(t)) for t in (p, q))
    step = torch.log1p((b - a) / a)
    # q - t = -q expm1((u - 1) step) at t = p e^{u step}, and dt = t step du.
    integrand = -torch.expm1((nodes - 1) * step) * kl_uniform_slope(m, a * torch.exp(nodes * step))
    by_nodes = b * step * (weights * integrand).sum(0)

    a, b = (torch.where(near, torch.zeros_like(t), t) for t in (p, q))
    a_length, b_length = vmf_mean_length(m, a), vmf_mean_length(m, b)
    rise = torch.where(b_length < 0.5, b_length - a_length, iv_ratio_c(m / 2, a) - iv_ratio_c(m / 2, b))
    by_parts = vmf_kl_uniform(m, a) - vmf_kl_uniform(m, b) + b * rise
    kl = torch.where(near, by_nodes, by_parts) + 0.5 * q * vmf_mean_length(m, p) * distance
    return torch.where((q == torch.inf) & (p < torch.inf), torch.inf, kl).to(dtype)


@register_kl(VonMisesFisher, VonMisesFisher)
def _(p, q):
    _check_same_dims(p, q)
    distance = (p.loc - q.loc).square().sum(-1)
    return _kl_vmf_vmf(p.event_shape[0], p.concentration, q.concentration, distance)


@register_kl(VonMisesFisher, HypersphericalUniform)
def _(p, q):
    _check_same_dims(p, q)
    kl = vmf_kl_uniform(p.event_shape[0], p.concentration)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, VonMisesFisher)
def _(p, q):
    _check_same_dims(p, q)
    kl = kl_of_uniform(q.event_shape[0], q.concentration)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, HypersphericalUniform)
@register_kl(ProductHypersphericalUniform, ProductHypersphericalUniform)
def _(p, q):
    _check_same_dims(p, q)
    return p._filled(0.0, torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(ProductVonMisesFisher, ProductVonMisesFisher)
@register_kl(ProductVonMisesFisher, ProductHypersphericalUniform)
def _(p, q):
    return p.kl_per_shell(q).sum(-1)


@register_kl(ProductHypersphericalUniform, ProductVonMisesFisher)
def _(p, q):
    _check_same_dims(p, q)
    kl = kl_of_uniform(q._m, q.concentration).sum(-1)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


# ---- Losses ----


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    raise ValueError(f"reduction must be 'none', 'mean' or 'sum', not {reduction!r}")


def vmf_nll_loss(loc: Tensor, concentration: Tensor | float, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood -log vMF(target; loc, concentration) of unit vectors.

    loc and target (..., m) are unit vectors, which is not checked; concentration >= 0 broadcasts with their batch
    shapes, or is one learned number. Every m and κ is exact to rounding, so the gradient in κ, target's component
    along loc less A_m(κ) with the sign turned, is continuous: there is no switch to an approximation at large κ.
    reduction: "none", "mean" or "sum"; another, or a target of another last size, raises ValueError.
    """
    concentration = _as_concentration(concentration, loc)
    if loc.dim() < 1 or loc.shape[-1] < 2:
        raise ValueError(f"loc must have shape (..., m) with m >= 2, got {tuple(loc.shape)}")
    _check_last("target", target, loc.shape[-1])
    distance = (target - loc).square().sum(-1)
    return _reduced(0.5 * concentration * distance - log_density_at_mode(loc.shape[-1], concentration), reduction)


def vmf_nll_embedding_loss(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of unit vectors under a prediction whose length is the concentration.

    -log C_m(‖e‖) - eᵀtarget for predictions e (..., m) and unit targets (..., m) (Kumar and Tsvetkov, ICLR 2019,
    equation 2), for continuous-output models. Exact for any m and length, 0 included, where the gradient is -target
    (and no second derivative is to be taken).
    reduction: "none", "mean" or "sum".
    """
    m = prediction.shape[-1]
    if target.shape[-1] != m:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must share their last size"
        )
    length = torch.linalg.vector_norm(prediction, dim=-1)
    short = length < 1
    # ‖e‖ - eᵀt = ‖e‖ ‖e/‖e‖ - t‖²/2 has no cancellation; a short e needs none of that and may be 0.
    safe = torch.where(short, torch.ones_like(length), length).unsqueeze(-1)
    distance = (prediction / safe - target).square().sum(-1)
    long_loss = 0.5 * length * distance - log_density_at_mode(m, length)
    short_loss = -vmf_log_normalizer(m, length) - (prediction * target).sum(-1)
    return _reduced(torch.where(short, short_loss, long_loss), reduction)
