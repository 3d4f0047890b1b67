"""Modified Bessel functions of the second kind and real order: logarithms and scaled value, with derivatives."""

import torch
from torch import Tensor

from ._autograd import differentiable, op, promote

__all__ = ["log_kv", "log_kve", "kve"]

Real = Tensor | float

# ---- Differentiable functions for tensors of one dtype ----

_ADVICE = "only first ones of log_kv, log_kve and kve, not mixed with others"


def _third_slope(v, x, u):
    """The derivative of u = (log K)'', from Bessel's equation u = 1 + v^2/x^2 + L/x - L^2, L = -(log K)';
    in double precision, of which it loses a factor x."""
    dtype, v, x = x.dtype, v.double(), x.double()
    drop, u = -_log_kv_slope(v, x), _curvature(v, x)
    return (2 * drop * u - (drop / x + u + 2 * (v / x) ** 2) / x).to(dtype)


_curvature = differentiable("log_kv", op("log_kv_curvature"), slope=_third_slope, advice=_ADVICE)
_order_slope = differentiable("log_kv", op("log_kv_order_slope"), advice=_ADVICE)


def _logarithm(name):
    """log_kv or log_kve, and its slope in x as a function; one kernel gives the slope in every mode."""
    with_slope = op(f"{name}_with_slope", 2)
    slope = differentiable(
        name, lambda v, x: with_slope(v, x)[1], slope=lambda v, x, _: _curvature(v, x), advice=_ADVICE
    )
    function = differentiable(
        name,
        op(name),
        with_slope,
        slope=lambda v, x, _: slope(v, x),
        order_slope=lambda v, x, _: _order_slope(v, x),
    )
    return function, slope


_log_kv, _log_kv_slope = _logarithm("log_kv")
_log_kve, _log_kve_slope = _logarithm("log_kve")
_kve_with_slope = op("kve_with_slope", 2)
_kve_slope = differentiable(
    "kve",
    lambda v, x: _kve_with_slope(v, x)[1],
    slope=lambda v, x, _: _kve(v, x) * (_log_kve_slope(v, x) ** 2 + _curvature(v, x)),
    advice=_ADVICE,
)
_kve = differentiable(
    "kve",
    op("kve"),
    _kve_with_slope,
    slope=lambda v, x, _: _kve_slope(v, x),
    order_slope=lambda v, x, f: torch.where(f == 0, f, f * _order_slope(v, x)),
)


def _call(name, function, v, x):
    v, x, result_dtype = promote(name, v, x)
    y = function(v, x)
    return y if result_dtype is None else y.to(result_dtype)


def log_kv(v: Real, x: Real) -> Tensor:
    r"""log K_v(x), the logarithm of the modified Bessel function of the second kind (DLMF 10.25.3).

    Args:
        v: order, any real number or a tensor; K_{-v} = K_v.
        x: argument, x >= 0, a real number or a tensor; v and x broadcast and promote as in torch.special.

    Returns:
        A tensor of the broadcast shape. float32 and float64 are computed natively, half and bfloat16 in float32;
        integers take the default dtype. log_kv(v, 0) = inf, log_kv(v, inf) = -inf, log_kv(inf, x) = inf; NaN for
        negative x and where both are infinite.

    Derivatives in x of any order, those beyond the second with a loss of a factor x; in v of first order, others raise
    NotImplementedError.

    Raises:
        TypeError: complex or non-numeric input. RuntimeError: tensors on different devices, or shapes that do not
            broadcast.

    Accuracy: backward error at most 3 eps; the slope in x 8 eps, the slope in v 1e-12 (float32: 1e-5), the second
    derivative in x 24 eps (see csrc/math/second_kind.h for the methods).

    >>> log_kv(2.5, torch.tensor([1e-30, 1.0, 1e10], dtype=torch.float64))
    tensor([ 1.7362e+02,  1.1716e+00, -1.0000e+10], dtype=torch.float64)
    """
    return _call("log_kv", _log_kv, v, x)


def log_kve(v: Real, x: Real) -> Tensor:
    r"""log(e^x K_v(x)) = log_kv(v, x) + x without its cancellation for large x (DLMF 10.40.2).

    Args, domain, dtypes, derivatives, errors and accuracy as log_kv. log_kve(v, inf) = -inf.

    >>> log_kve(0.5, torch.tensor(1e9, dtype=torch.float64))  # log(pi/2x) / 2
    tensor(-10.1358, dtype=torch.float64)
    """
    return _call("log_kve", _log_kve, v, x)


def kve(v: Real, x: Real) -> Tensor:
    r"""e^x K_v(x), the exponentially scaled modified Bessel function of the second kind, as scipy.special.kve.

    Args, dtypes, derivatives and errors as log_kv. kve(v, 0) = inf, kve(v, inf) = 0; inf where it overflows.

    Accuracy: 4 eps kve (1 + |log kve| + |v d/dv log kve| + |x d/dx log kve|).

    >>> kve(0, torch.tensor(2.0))
    tensor(0.8416)
    """
    return _call("kve", _kve, v, x)
