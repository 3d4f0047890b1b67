"""The von Mises-Fisher law on one sphere."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from .._arguments import as_parameters, check_last, common_batch_shape, refuse_kept_axis
from .._density import log_density_ratio
from .._normalize import normalized_and_valid
from ..cosine import vmf_cdf, vmf_icdf
from ..sampling import draw
from ..vmf import (
    coordinate_variances,
    log_sphere_area,
    mean_length_slope,
    vmf_kl_uniform,
    vmf_mean_length,
)
from .constraints import normalized_or_pole, unit_vector
from .estimation import check_points, check_weights, maximum_likelihood, moments, unbiased_concentration
from .spherical import Spherical, expanded


class PerParameter(NamedTuple):
    """A number about the mean direction and one about the concentration, each of the batch shape."""

    direction: Tensor
    concentration: Tensor


class VonMisesFisher(Spherical):
    """von Mises-Fisher law on the unit sphere of R^m, with density C_m(κ) exp(κ μᵀz).

    Args:
        loc: mean direction μ, (..., m) with m >= 2. It is divided by its length, so any nonzero vector will do; with
            `normalize=False` it must have length 1 already.
        concentration: κ >= 0, a number or a tensor that broadcasts with loc's batch shape; 0 is the uniform law, inf a
            point mass at μ. Numbers, lists, arrays and dtypes are promoted as torch promotes them.

    Errors: TypeError for what is no real number; ValueError for shapes that do not broadcast, for a concentration
    (..., 1) with as many axes as loc, and, validated, for a loc of length 0 and for negative or NaN values.

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
        loc, concentration = as_parameters(loc, concentration)
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(f"loc must have shape (..., m) with m >= 2, got {tuple(loc.shape)}")
        refuse_kept_axis("concentration", concentration, "loc", loc)
        batch_shape = common_batch_shape(loc, concentration.shape)
        m = loc.shape[-1]
        valid = None
        if normalize:
            loc, valid = normalized_and_valid(loc, (m,), concentration)
        self.loc = expanded(loc, batch_shape + (m,))
        self.concentration = expanded(concentration, batch_shape)
        self._initialise(batch_shape, loc.shape[-1:], validate_args, valid, normalize)

    @property
    def mode(self) -> Tensor:
        """μ, at κ = 0 as good as any point."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        """A_m(κ) μ, inside the sphere."""
        return vmf_mean_length(self.event_shape[0], self.concentration).unsqueeze(-1) * self.loc

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Variance of each coordinate across μ and along it, A/κ and A'."""
        across, along = coordinate_variances(self.event_shape[0], self.concentration)
        return across.unsqueeze(-1), along.unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate: the diagonal of the covariance matrix."""
        return torch.lerp(*self._moments(), self.loc.square().clamp_max(1))

    @property
    def covariance_matrix(self) -> Tensor:
        """A_m(κ)/κ (I - μμᵀ) + A_m'(κ) μμᵀ, (..., m, m)."""
        across, along = self._moments()
        identity = torch.eye(self.event_shape[0], dtype=self.loc.dtype, device=self.loc.device)
        outer = self.loc.unsqueeze(-1) * self.loc.unsqueeze(-2)
        return across.unsqueeze(-1) * (identity - outer) + along.unsqueeze(-1) * outer

    @classmethod
    def from_natural(cls, eta: Tensor, validate_args=None) -> "VonMisesFisher":
        """The law of density proportional to exp(ηᵀz), η = κμ (..., m); the uniform law for 0."""
        if not isinstance(eta, Tensor) or not eta.is_floating_point() or eta.dim() < 1 or eta.shape[-1] < 2:
            raise ValueError("eta must be a floating-point tensor of shape (..., m) with m >= 2")
        loc = normalized_or_pole(eta, eta.shape[-1:])
        return cls(loc, (eta * loc).sum(-1), normalize=False, validate_args=validate_args)

    @property
    def natural(self) -> Tensor:
        """η = κμ, (..., m)."""
        return self.concentration.unsqueeze(-1) * self.loc

    def fisher_information(self) -> "PerParameter":
        """Of one point, about μ along each tangent direction, κ A_m(κ), and about κ, A_m'(κ).

        μ and κ are orthogonal: the matrix of (μ, κ) is κA (I - μμᵀ) beside A'; that of η = κμ is `covariance_matrix`.
        """
        m = self.event_shape[0]
        direction = self.concentration * vmf_mean_length(m, self.concentration)
        return PerParameter(direction, mean_length_slope(m, self.concentration))

    def standard_errors(self, n) -> "PerParameter":
        """Of the fit to n points: of μ along each tangent direction, in radians, 1/√(nκA), and of κ, 1/√(nA').

        For large n; n a number or a tensor of the batch shape, for weights (Σw)²/Σw².
        """
        return PerParameter(*((n * information).rsqrt() for information in self.fisher_information()))

    def cosine_cdf(self, w) -> Tensor:
        """P(μᵀz <= w) of the cosine with the mean direction; w a number or a tensor that broadcasts with the batch."""
        return vmf_cdf(self.event_shape[0], self.concentration, w)

    def confidence_cone(self, level) -> Tensor:
        """The angle to μ, in radians, within which draws fall with probability `level`, in [0, 1]; outside NaN.

        From the quantile of the cosine, in float64: to 1e-16 κ/m relative.
        """
        level = torch.as_tensor(level, dtype=torch.float64, device=self.loc.device)
        cosine = vmf_icdf(self.event_shape[0], self.concentration.double(), 1 - level)
        return torch.acos(cosine.clamp(-1, 1)).to(self.loc.dtype)

    def rsample(self, sample_shape=(), *, gradient="implicit", generator=None) -> Tensor:
        """Exact draws, differentiable in loc and concentration; gradient and generator as in vmf_ops.sample_vmf."""
        return draw(
            self.loc, self.concentration, tuple(self._event_shape), self._batch_shape, sample_shape, gradient, generator
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """log density at unit vectors, batch_shape and leading axes of `value` broadcast."""
        if self._validate_args:
            self._validate_sample(value)
        check_last("value", value, self.event_shape[0])
        m = self.event_shape[0]
        return log_density_ratio(m, self.concentration, value, self.loc) - log_sphere_area(m)

    def entropy(self) -> Tensor:
        """-E log p, in nats; the log area of the sphere at κ = 0."""
        return log_sphere_area(self.event_shape[0]) - vmf_kl_uniform(self.event_shape[0], self.concentration)

    @classmethod
    def fit(
        cls, z: Tensor, weights: Tensor | None = None, *, bias_correction: bool = False, normalize: bool = False
    ) -> "VonMisesFisher":
        """Maximum likelihood of μ and κ from unit vectors z (..., n, m), weights >= 0 of shape (..., n).

        μ is the direction of the mean and κ solves A_m(κ) = R, R the length of the (weighted) mean: too large on
        average, for m = 3 by 2κ/n. With `bias_correction`, κ maximises the marginal likelihood of R instead, which
        solves A_m(κ) = R A_m(nRκ) and is 0 where nR² <= 1 (Schou, Biometrika 65 (1978) 369), and is then divided by
        1 - A''/(2(n-1)κA'²), the bias of second order that is left, exact for large κ; for weights, n = (Σw)²/Σw².
        `normalize` divides z by its lengths first, as data kept in half precision needs.

        Computed in float64, with 1 - R from the differences of the points, so that no κ is too large for its digits;
        the result has the dtype of z. A sample of mean 0, or of no weight, gives the uniform law: κ = 0, and e1 for
        loc. One of equal points gives κ = inf. Weights of a larger batch shape than z's, (K, n) for K laws from the
        same points, cost a matrix product and memory for n K numbers. Where arguments are validated, points that are no
        unit vectors and negative weights raise ValueError. Differentiable in z and weights, but for the correction.
        """
        z = check_points(z, normalize)
        weights = check_weights(weights, z)
        found = moments(z, weights)
        loc, concentration = maximum_likelihood(z.shape[-1], found)
        if bias_correction:
            concentration = unbiased_concentration(z.shape[-1], found, weights, concentration)
        return cls(loc.to(z.dtype), concentration.to(z.dtype), normalize=False, validate_args=False)
