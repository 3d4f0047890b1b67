r"""Closed forms of the von Mises-Fisher law on the unit sphere of R^m, with density C_m(κ) exp(κ μᵀz).

    A_m(κ) = I_{m/2}(κ) / I_{m/2-1}(κ)                          mean length
    C_m(κ) = κ^{m/2-1} / ((2π)^{m/2} I_{m/2-1}(κ))              normaliser
    H      = -log C_m(κ) - κ A_m(κ)                             entropy
    KL     = κ A_m(κ) + log C_m(κ) + log |S_{m-1}|              divergence to the uniform law

(Mardia and Jupp, Directional Statistics (2000), section 9.3). Written so, all but the first lose their digits: log C is
about -κ, KL about κ²/2m for small and ((m-1)/2) log κ for large κ. The kernels of csrc/math/vmf.h have no such loss.

Shared conventions. m >= 2 is the ambient dimension (m = 3: the ordinary sphere), a Python number or a tensor of any
real dtype that broadcasts with κ; it never changes the dtype of the result, which is κ's. float32 and float64 are
computed natively, half and bfloat16 in float32 and cast back, integers and Python numbers in the default dtype. κ = 0
is the uniform law in every function and derivative. Negative and NaN κ, and m < 2, give NaN in that element. Complex or
non-numeric input raises TypeError, tensors on different devices or shapes that do not broadcast RuntimeError.
Derivatives in κ exist to any order, in m the first, of 1e-11 relative error (float32: 1e-5); a
second raises NotImplementedError.
"""

import math

import torch
from torch import Tensor

from ._autograd import differentiable, op, promote, transformed
from .special import _ratio, _ratio_c, _ratio_curvature, _ratio_order_slope, _ratio_slope

__all__ = [
    "vmf_mean_length",
    "vmf_log_normalizer",
    "vmf_entropy",
    "vmf_kl_uniform",
    "vmf_concentration",
    "vmf_concentration_c",
]

Real = Tensor | float


def _order(m):
    """The order of the Bessel function in C_m, NaN below 0."""
    return torch.nn.functional.threshold(0.5 * m - 1, -torch.finfo(m.dtype).tiny, math.nan)


def _mean_length_order_slope(m, kappa):
    return 0.5 * _ratio_order_slope(_order(m), kappa)


def _concentration_order_slope(m, _, kappa):
    """With the mean length held."""
    return -_mean_length_order_slope(m, kappa) / _ratio_slope(_order(m), kappa)


def _kl_order_slope(m, kappa, _):
    """Of κ A - log F; both terms are negative, and the second half as large or less where κ is small."""
    finite = kappa.clamp(max=torch.finfo(kappa.dtype).max)
    return finite * _mean_length_order_slope(m, kappa) - _log_f_order_slope(m, kappa)


# Differentiable functions of (m, κ), for tensors of one dtype. log F: log C_m(0) - log C_m(κ).
_mean_length = differentiable(
    "vmf_mean_length",
    lambda m, kappa: torch.ops.vmf_ops.ratio.default(_order(m), kappa),
    lambda m, kappa: torch.ops.vmf_ops.ratio_with_slope.default(_order(m), kappa),
    slope=lambda m, kappa, _: _ratio_slope(_order(m), kappa),
    order_slope=lambda m, kappa, _: _mean_length_order_slope(m, kappa),
    order="m",
)
_moments = op("ratio_moments", 2)


def _spread_slope(m, kappa, _):
    """Of A/κ, from A/κ = (1 - A² - A')/(m-1)."""
    v = _order(m)
    return -(2 * _ratio(v, kappa) * _ratio_slope(v, kappa) + _ratio_curvature(v, kappa)) / (2 * v + 1)


_spread = differentiable(
    "variance", lambda m, kappa: _moments(_order(m), kappa)[0], slope=_spread_slope, order="m", advice="detach m"
)
_log_f_order_slope = differentiable("vmf_log_normalizer", op("log_f_order_slope"), order="m", advice="only first ones")
_kl_uniform_with_slope = op("kl_uniform_with_slope", 2)
# κ A'(κ), right where A' alone underflows.
_kl_slope = differentiable(
    "vmf_kl_uniform",
    lambda m, kappa: _kl_uniform_with_slope(m, kappa)[1],
    slope=lambda m, kappa, _: _ratio_slope(_order(m), kappa) + kappa * _ratio_curvature(_order(m), kappa),
    order="m",
)
_kl_uniform = differentiable(
    "vmf_kl_uniform",
    op("kl_uniform"),
    _kl_uniform_with_slope,
    slope=lambda m, kappa, _: _kl_slope(m, kappa),
    order_slope=_kl_order_slope,
    order="m",
)
_log_f = differentiable(
    "vmf_log_normalizer",
    op("log_f"),
    op("log_f_with_slope", 2),
    slope=lambda m, kappa, _: _ratio(_order(m), kappa),
    order_slope=lambda m, kappa, _: _log_f_order_slope(m, kappa),
    order="m",
)
_log_peak = differentiable(
    "log_density_at_mode",
    op("log_peak"),
    op("log_peak_with_slope", 2),
    slope=lambda m, kappa, _: _ratio_c(_order(m), kappa),
    order_slope=lambda m, kappa, _: -_log_f_order_slope(m, kappa),
    order="m",
)
_log_anchor = differentiable(
    "log_anchor",
    op("log_anchor"),
    op("log_anchor_with_slope", 2),
    slope=lambda m, kappa, _: torch.where(kappa <= 0.5 * m, -_ratio(_order(m), kappa), _ratio_c(_order(m), kappa)),
    order_slope=lambda m, kappa, _: -_log_f_order_slope(m, kappa),
    order="m",
)
_concentration_of_complement = differentiable(
    "vmf_concentration_c",
    op("concentration_of_complement"),
    slope=lambda m, complement, kappa: -1 / _ratio_slope(_order(m), kappa),
    order_slope=_concentration_order_slope,
    order="m",
)
_concentration = differentiable(
    "vmf_concentration",
    op("concentration"),
    slope=lambda m, mean_length, kappa: 1 / _ratio_slope(_order(m), kappa),
    order_slope=_concentration_order_slope,
    order="m",
)


def log_sphere_area(m: Real) -> Tensor | float:
    r"""log(2 π^{m/2} / Γ(m/2)), the log area of the unit sphere of R^m: a float for a number, a tensor for a tensor.

    >>> round(log_sphere_area(3), 12) == round(math.log(4 * math.pi), 12)
    True
    """
    if not isinstance(m, Tensor):
        return 0.5 * m * math.log(math.pi) + math.log(2) - math.lgamma(0.5 * m) if m >= 2 else math.nan
    half = 0.5 * m.double()
    area = half * math.log(math.pi) + math.log(2) - torch.lgamma(half)
    return torch.where(m >= 2, area, math.nan).to(m.dtype if m.is_floating_point() else torch.get_default_dtype())


def _call(name, function, m, x, argument="kappa", area_sign=0):
    given = m
    m, x, result_dtype = promote(name, m, x, order="m", argument=argument, order_dtype_counts=False)
    y = function(m, x)
    if area_sign:
        area = log_sphere_area(m if isinstance(given, Tensor) else given)
        y = area - y if area_sign > 0 else y - area
    return y if result_dtype is None else y.to(result_dtype)


def vmf_mean_length(m: Real, kappa: Real) -> Tensor:
    r"""A_m(κ) = I_{m/2}(κ)/I_{m/2-1}(κ), the length of the mean of vMF(μ, κ) in R^m: κ/m for small κ, to 1 for large.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.vmf. A_m(inf) = 1.

    Accuracy: 2.5 eps relative; its derivative 10 eps.

    >>> vmf_mean_length(3, torch.tensor([0.0, 3.0, 1e8]))
    tensor([0.0000, 0.6716, 1.0000])
    """
    return _call("vmf_mean_length", _mean_length, m, kappa)


def vmf_log_normalizer(m: Real, kappa: Real) -> Tensor:
    r"""log C_m(κ) = (m/2-1) log κ - (m/2) log 2π - log I_{m/2-1}(κ); minus the log area of the sphere at κ = 0.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.vmf. log C_m(inf) = -inf. The derivative is -A_m(κ).
    A density of a point z is better taken from vmf_ops.distributions.VonMisesFisher.log_prob: log C_m(κ) + κ μᵀz
    cancels for large κ.

    Accuracy: 2 eps (1 + |log C| + κ A + m log m).

    >>> vmf_log_normalizer(3, torch.tensor([0.0, 3.0]))
    tensor([-2.5310, -3.7368])
    """
    return _call("vmf_log_normalizer", lambda m, kappa: -_log_f(m, kappa), m, kappa, area_sign=-1)


def vmf_entropy(m: Real, kappa: Real) -> Tensor:
    r"""-E log vMF(z; μ, κ) = log |S_{m-1}| - KL(vMF ‖ uniform), in nats; nothing of size κ enters it.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.vmf. The entropy at κ = inf is -inf.

    Accuracy: 4 eps (1 + |H| + m log m).

    >>> vmf_entropy(3, torch.tensor([0.0, 3.0, 1e8]))
    tensor([  2.5310,   1.7219, -15.5828])
    """
    return _call("vmf_entropy", _kl_uniform, m, kappa, area_sign=1)


def vmf_kl_uniform(m: Real, kappa: Real) -> Tensor:
    r"""KL(vMF(μ, κ) ‖ uniform) on the unit sphere of R^m, in nats: κ A_m(κ) - log 0F1(; m/2; κ²/4).

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.vmf. Shells of different m are one call, with m a
    tensor (K,) and κ (..., K). KL = 0 at κ = 0 and inf at κ = inf; the derivative is κ A_m'(κ), computed in the same
    pass.

    Accuracy: 7 eps relative, the derivative 10 eps, for m 2 to 1e5 and κ 1e-8 to 1e8, in both precisions.

    >>> vmf_kl_uniform(torch.tensor([3, 512]), torch.tensor([3.0, 1e-3], dtype=torch.float64))
    tensor([8.0915e-01, 9.7656e-10], dtype=torch.float64)
    """
    return _call("vmf_kl_uniform", _kl_uniform, m, kappa)


def vmf_concentration(m: Real, mean_length: Real) -> Tensor:
    r"""The κ with A_m(κ) = mean_length: the maximum-likelihood concentration for a mean of that length.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.vmf, with mean_length in κ's place. 0 gives 0, 1 gives
    inf, outside [0, 1] NaN. Newton's method with a fixed number of steps (see csrc/math/vmf.h); the derivative is
    1/A_m'(κ), to any order.

    Accuracy: 4 eps (1 + A/(κ A')) relative, where the second term is what one rounding of mean_length does.

    >>> vmf_concentration(3, vmf_mean_length(3, torch.tensor([0.0, 50.0], dtype=torch.float64)))
    tensor([ 0.0000, 50.0000], dtype=torch.float64)
    """
    return _call("vmf_concentration", _concentration, m, mean_length, argument="mean_length")


def vmf_concentration_c(m: Real, complement: Real) -> Tensor:
    r"""The κ with 1 - A_m(κ) = complement: vmf_concentration(m, 1 - complement) without the rounding of 1 - complement,
    for points so near each other that their mean length is nearly 1.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.vmf, with complement in κ's place. 0 gives inf, 1
    gives 0, outside [0, 1] NaN. The derivative is -1/A_m'(κ), to any order.

    Accuracy: 4 eps (1 + (1-A)/(κ A')) relative where A >= 1/2.

    >>> vmf_concentration_c(3, torch.tensor([1e-20, 0.25], dtype=torch.float64))
    tensor([1.0000e+20, 3.9891e+00], dtype=torch.float64)
    """
    return _call("vmf_concentration_c", _concentration_of_complement, m, complement, argument="complement")


def kl_of_uniform(m: Real, kappa: Real) -> Tensor:
    """KL(uniform ‖ vMF(μ, κ)) = log C_m(0) - log C_m(κ) = log 0F1(; m/2; κ²/4); conventions as vmf_kl_uniform."""
    return _call("kl_of_uniform", _log_f, m, kappa)


def kl_uniform_slope(m: Real, kappa: Real) -> Tensor:
    """κ A_m'(κ), the derivative of vmf_kl_uniform; its conventions."""
    return _call("kl_uniform_slope", _kl_slope, m, kappa)


def mean_length_slope(m: Real, kappa: Real) -> Tensor:
    """A_m'(κ), the variance of μᵀz; conventions as vmf_mean_length."""
    return _call("mean_length_slope", lambda m, kappa: _ratio_slope(_order(m), kappa), m, kappa)


def coordinate_variances(m: Real, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """A/κ and A', the variances of a coordinate across μ and along it, in one kernel; conventions as vmf_mean_length.

    Accuracy: 2.2 and 6.4 eps relative. The derivative of A/κ is -(2AA' + A'')/(m-1).
    """
    m, kappa, dtype = promote("variance", m, kappa, order="m", argument="concentration", order_dtype_counts=False)
    if transformed() or (torch.is_grad_enabled() and kappa.requires_grad):
        across, along = _spread(m, kappa), _ratio_slope(_order(m), kappa)
    else:
        across, along = _moments(_order(m), kappa)
    return (across, along) if dtype is None else (across.to(dtype), along.to(dtype))


def mean_length_curvature(m: Real, kappa: Real) -> Tensor:
    """A_m''(κ); conventions as vmf_mean_length."""
    return _call("mean_length_curvature", lambda m, kappa: _ratio_curvature(_order(m), kappa), m, kappa)


def log_density_at_mode(m: Real, kappa: Real) -> Tensor:
    """log vMF(μ; μ, κ) = log C_m(κ) + κ, of size m log κ and with derivative 1 - A_m(κ); conventions as vmf_entropy."""
    return _call("log_density_at_mode", _log_peak, m, kappa, area_sign=-1)


def log_anchor(m: Real, kappa: Real) -> Tensor:
    """log of the density over the uniform law's, at the equator where κ <= m/2, at the mode above; see _density.py."""
    return _call("log_anchor", _log_anchor, m, kappa)
