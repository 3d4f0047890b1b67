"""Modified Bessel functions of the first kind and real order: logarithm, scaled value and ratio, with derivatives."""

import torch
from torch import Tensor

from . import _C  # noqa: F401  (loads the ops)
from ._autograd import differentiable, op, promote

__all__ = ["log_iv", "log_ive", "ive", "iv_ratio", "iv_ratio_c"]

Real = Tensor | float

# ---- Differentiable functions for tensors of one dtype; the ratio here is r = I_{v+1}/I_v of the base order v ----

_ratio_curvature_op = op("ratio_curvature")


def _third_ratio_slope(v, x, _):
    """The third derivative of r, in double precision and differentiable in turn.

    For small x from the recurrence r_v = x / (2(v+1) + x r_{v+1}), else from the Riccati equation
    r' = 1 - (2v+1) r/x - r^2, which loses digits like (v/x)^2; both differentiated.
    """
    dtype, v, x = x.dtype, v.double(), x.double()
    small = x < 0.2 * (v + 1)
    # Each branch is given an argument that it can take, so that no NaN comes from the one not chosen.
    by_recurrence = _third_by_recurrence(v, torch.where(small, x, torch.zeros_like(x)), 4)
    x = torch.where(small, torch.ones_like(x), x)
    r, d, dd = _ratio(v, x), _ratio_slope(v, x), _ratio_curvature(v, x)
    by_riccati = -(2 * v + 1) * (dd - 2 * (d - r / x) / x) / x - 2 * (d * d + r * dd)
    return torch.where(small & (v >= -0.5), by_recurrence, by_riccati).to(dtype)


def _third_by_recurrence(v, x, depth):
    """The third derivative of r_v from r_{v+1} and its derivatives, the third likewise, `depth` orders up; the last is
    its limit at x = 0."""
    if depth == 0:
        return -0.75 / ((v + 1) ** 2 * (v + 2))
    s, ds, dds = _ratio(v + 1, x), _ratio_slope(v + 1, x), _ratio_curvature(v + 1, x)
    ddds = _third_by_recurrence(v + 1, x, depth - 1)
    # r = x/q and the derivatives of q.
    q, dq, ddq, dddq = 2 * (v + 1) + x * s, s + x * ds, 2 * ds + x * dds, 3 * dds + x * ddds
    return (-3 * ddq + 6 * dq * dq / q - x * dddq + 6 * x * dq * ddq / q - 6 * x * dq**3 / (q * q)) / (q * q)


_FIRST_ONLY = "only first ones, alone or with one in x of log_iv, log_ive and ive"
_ratio_curvature = differentiable("iv_ratio", _ratio_curvature_op, slope=_third_ratio_slope, advice=_FIRST_ONLY)
_ratio_slope = differentiable(
    "iv_ratio", op("ratio_slope"), slope=lambda v, x, _: _ratio_curvature(v, x), advice=_FIRST_ONLY
)
_ratio_order_slope = differentiable("iv_ratio", op("ratio_order_slope"), advice=_FIRST_ONLY)
_ratio = differentiable(
    "iv_ratio",
    op("ratio"),
    op("ratio_with_slope", 2),
    slope=lambda v, x, _: _ratio_slope(v, x),
    order_slope=lambda v, x, _: _ratio_order_slope(v, x),
)
_ratio_c = differentiable(
    "iv_ratio_c",
    op("ratio_complement"),
    op("ratio_complement_with_slope", 2),
    slope=lambda v, x, _: -_ratio_slope(v, x),
    order_slope=lambda v, x, _: -_ratio_order_slope(v, x),
)


def _order_over(v, x):
    """v/x where 0/0 is 0: the part of the slope that x^v gives."""
    return torch.where(v == 0, torch.zeros_like(x), v / torch.where(v == 0, torch.ones_like(x), x))


# The slopes in x come from one kernel whatever the mode of differentiation: saved, or asked for as a function.


def _slope_of(name):
    """The slope in x of log_iv or log_ive, r + v/x or that less 1, as a function with derivatives of its own."""
    with_slope = op(f"{name}_with_slope", 2)
    slope = differentiable(
        name,
        lambda v, x: with_slope(v, x)[1],
        slope=lambda v, x, _: _ratio_slope(v, x) - _order_over(_order_over(v, x), x),
        order_slope=lambda v, x, _: _mixed_slope(v, x),
        advice=_FIRST_ONLY,
    )
    return with_slope, slope


def _mixed_slope(v, x):
    """The second derivative of log_iv in v and x."""
    return _ratio_order_slope(v, x) + 1 / x


_order_slope = differentiable(
    "log_iv", op("log_iv_order_slope"), slope=lambda v, x, _: _mixed_slope(v, x), advice=_FIRST_ONLY
)
_log_iv_with_slope, _log_iv_slope = _slope_of("log_iv")
_log_iv = differentiable(
    "log_iv",
    op("log_iv"),
    _log_iv_with_slope,
    slope=lambda v, x, _: _log_iv_slope(v, x),
    order_slope=lambda v, x, _: _order_slope(v, x),
)
_log_ive_with_slope, _log_ive_slope = _slope_of("log_ive")
_log_ive = differentiable(
    "log_ive",
    op("log_ive"),
    _log_ive_with_slope,
    slope=lambda v, x, _: _log_ive_slope(v, x),
    order_slope=lambda v, x, _: _order_slope(v, x),
)


def _ive_curvature(v, x, _):
    """The second derivative of f = ive, in double precision: f (L^2 + L') with L = v/x - (1-r), its powers of v/x taken
    together; at x = 0 by DLMF 10.29.1, where I_{-1} = I_1 serves v = 0 and an order below 1 has an infinite limit."""
    dtype, v, x = x.dtype, v.double(), x.double()
    zero = x == 0
    # Each branch is given an argument that it can take, so that no NaN comes from the one not chosen.
    at_zero, x = torch.where(zero, x, torch.zeros_like(x)), torch.where(zero, torch.ones_like(x), x)
    f, complement = _ive(v, x), _ratio_c(v, x)
    scaled = v * (f / x)
    inner = scaled * ((v - 1) / x) - 2 * scaled * complement + f * (complement * complement + _ratio_slope(v, x))
    neighbours = 0.5 * (_ive_slope((v - 1).abs(), at_zero) + _ive_slope(v + 1, at_zero))
    limit = torch.where((v > 0) & (v < 1), -torch.inf, neighbours - _ive_slope(v, at_zero))
    return torch.where(zero, limit, inner).to(dtype)


def _ive_mixed_slope(v, x, slope):
    """The derivative of ive's slope in v: f L (d/dv log f) + f dL/dv, 0 where the slope and f are."""
    f = _ive(v, x)
    inner = slope * _order_slope(v, x) + f * _mixed_slope(v, x)
    return torch.where((slope == 0) & (f == 0), torch.zeros_like(inner), inner)


_ive_with_slope = op("ive_with_slope", 2)
_ive_slope = differentiable(
    "ive",
    lambda v, x: _ive_with_slope(v, x)[1],
    slope=_ive_curvature,
    order_slope=_ive_mixed_slope,
    advice=_FIRST_ONLY,
)
_ive = differentiable(
    "ive",
    op("ive"),
    _ive_with_slope,
    slope=lambda v, x, _: _ive_slope(v, x),
    # Where ive vanishes, at x = 0 for one, so does its slope: 0 times the logarithm's -inf.
    order_slope=lambda v, x, f: torch.where(f == 0, f, f * _order_slope(v, x)),
)


def _call(name, function, v, x):
    v, x, result_dtype = promote(name, v, x)
    y = function(v, x)
    return y if result_dtype is None else y.to(result_dtype)


def log_iv(v: Real, x: Real) -> Tensor:
    r"""log I_v(x), the logarithm of the modified Bessel function of the first kind (DLMF 10.25.2).

    Args:
        v: order, v >= 0, a real number or a tensor.
        x: argument, x >= 0, a real number or a tensor; v and x broadcast and promote as in torch.special.

    Returns:
        A tensor of the broadcast shape. float32 and float64 are computed natively, half and bfloat16 in float32;
        integers take the default dtype. log_iv(0, 0) = 0, log_iv(v > 0, 0) = -inf, log_iv(v, inf) = inf,
        log_iv(inf, x) = -inf; NaN outside the domain and where both are infinite.

    Derivatives in x of any order; in v of first order (DLMF 10.38.1), also mixed with one in x, whose error is 1e-13 of
    1/x; others raise NotImplementedError.

    Raises:
        TypeError: complex or non-numeric input. RuntimeError: tensors on different devices, or shapes that do not
            broadcast.

    Accuracy: backward error at most 3 eps; the slope in x 8 eps, the slope in v 1e-12, in float32 1e-3, for v
    from 1e-6 to 2e4 (see docs/accuracy.md).

    >>> log_iv(19.5, torch.tensor([1.0, 1e-30, 1e10], dtype=torch.float64))
    tensor([-5.5930e+01, -1.4035e+03,  1.0000e+10], dtype=torch.float64)
    """
    return _call("log_iv", _log_iv, v, x)


def log_ive(v: Real, x: Real) -> Tensor:
    r"""log(e^-x I_v(x)) = log_iv(v, x) - x without its cancellation for large x (DLMF 10.40.1).

    Args, domain, dtypes, derivatives, errors and accuracy as log_iv. log_ive(0, 0) = 0, log_ive(v > 0, 0) = -inf,
    log_ive(v, inf) = -inf, log_ive(inf, x) = -inf.

    >>> log_ive(0.5, torch.tensor(1e9, dtype=torch.float64))
    tensor(-11.2806, dtype=torch.float64)
    """
    return _call("log_ive", _log_ive, v, x)


def ive(v: Real, x: Real) -> Tensor:
    r"""e^-x I_v(x), the exponentially scaled modified Bessel function; in place of scipy.special.ive for v, x >= 0.

    Args, dtypes, derivatives and errors as log_iv. ive(0, 0) = 1, ive(v > 0, 0) = 0, ive(v, inf) = 0. At x = 0 the
    first infinite derivative in x of a fractional order is right, those after it are NaN.

    Accuracy: 4 eps ive (1 + |log ive| + |v d/dv log ive| + |x d/dx log ive|).

    >>> ive(1, torch.tensor(2.0))
    tensor(0.2153)
    """
    return _call("ive", _ive, v, x)


def iv_ratio(v: Real, x: Real) -> Tensor:
    r"""I_v(x) / I_{v-1}(x), the ratio of successive orders (DLMF 10.33.1), in [0, 1].

    Args:
        v: order of the numerator, v >= 1/2; v = m/2 gives the mean resultant length of a von Mises-Fisher law in R^m.
        x: argument, x >= 0.

    Returns, dtypes and errors as log_iv. iv_ratio(v, 0) = 0, iv_ratio(v, inf) = 1, NaN for v < 1/2 or x < 0.

    Derivatives in x of any order; in v of first order, others raise NotImplementedError.

    Accuracy: 4 eps relative, its first derivative in x 24 eps (see docs/accuracy.md), the third 1e-8 relative (float32:
    1e-6), the fourth 1e-6; the derivative in v 1e-13 (float32: 1e-5).

    >>> iv_ratio(1.5, torch.tensor(3.0, dtype=torch.float64))  # coth x - 1/x
    tensor(0.6716, dtype=torch.float64)
    """
    return _call("iv_ratio", lambda v, x: _ratio(v - 1, x), v, x)


def iv_ratio_c(v: Real, x: Real) -> Tensor:
    r"""1 - I_v(x) / I_{v-1}(x), without its cancellation for large x; as iv_ratio, 8 eps relative.

    >>> iv_ratio_c(1.5, torch.tensor(1e8, dtype=torch.float64))
    tensor(1.0000e-08, dtype=torch.float64)
    """
    return _call("iv_ratio_c", lambda v, x: _ratio_c(v - 1, x), v, x)
