r"""The law of the cosine w = μᵀz of a von Mises-Fisher draw z in R^m, with density

    f(w) = exp(κ w) (1-w²)^((m-3)/2) / ∫ exp(κ t) (1-t²)^((m-3)/2) dt     on [-1, 1]

(Mardia and Jupp, Directional Statistics (2000), 9.3.17): distribution function, its complement and its inverse.

Shared conventions. m >= 2 is the ambient dimension, κ >= 0, κ = 0 the uniform law, κ = inf a point mass at 1. m never
changes the dtype of the result; κ and the last argument promote as in torch.special. All broadcast. float32 is
computed in double arithmetic, but for an integral in its own. NaN, negative κ and m < 2 or infinite give NaN in that
element. Complex or non-numeric input raises TypeError, tensors on different devices or shapes that do not broadcast
RuntimeError. First derivatives in κ and in the last argument, in every mode of torch; others, and any in m, raise
NotImplementedError.

The kernel and its errors: csrc/math/cosine.h.
"""

import torch
from torch import Tensor

from ._autograd import Function, Refuse, beside, lead, outer_jvp, promote, transformed
from ._compile import allow_in_graph
from ._sharded import elementwise_ops

__all__ = ["vmf_cdf", "vmf_sf", "vmf_icdf"]

Real = Tensor | float


def _op(name, outputs):
    def fake(m, kappa, x):
        return tuple(x.new_empty(x.shape) for _ in range(outputs))

    torch.library.register_fake(f"vmf_ops::{name}")(fake)
    overload = getattr(torch.ops.vmf_ops, name).default
    elementwise_ops.append(overload)
    return overload


_tails, _law, _quantile = _op("cosine_tails", 2), _op("cosine_law", 4), _op("cosine_quantile", 3)


class _Slopes(Function):
    """A function's slopes in its last argument and in κ, which have no derivatives."""

    @staticmethod
    def forward(m, kappa, x, with_slopes, message):
        return with_slopes(m, kappa, x)[1:]

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.message = inputs[-1]

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(ctx.message)

    @staticmethod
    def jvp(ctx, *_):
        raise NotImplementedError(ctx.message)

    @staticmethod
    def vmap(info, in_dims, m, kappa, x, *rest):
        return _Slopes.apply(*torch.broadcast_tensors(*lead(info, in_dims[:3], (m, kappa, x))), *rest), (0, 0)


class _Cosine(Function):
    @staticmethod
    def forward(m, kappa, x, with_slopes, message):
        return with_slopes(m, kappa, x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        m, kappa, x, *ctx.rest = inputs
        _, x_slope, kappa_slope = output
        ctx.mark_non_differentiable(x_slope, kappa_slope)
        ctx.save_for_backward(m, kappa, x, x_slope, kappa_slope)
        ctx.save_for_forward(m, kappa, x)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad, *_):
        m, kappa, x, x_slope, kappa_slope = ctx.saved_tensors
        grad_kappa = grad_x = None
        if grad is not None:
            if torch.is_grad_enabled():  # a derivative of this derivative is refused
                x_slope, kappa_slope = _Slopes.apply(m, kappa, x, *ctx.rest)
            if ctx.needs_input_grad[1]:
                grad_kappa = grad * kappa_slope
            if ctx.needs_input_grad[2]:
                grad_x = grad * x_slope
        return None, grad_kappa, grad_x, None, None

    @staticmethod
    def jvp(ctx, _, grad_kappa, grad_x, *__):
        with outer_jvp(ctx.saved_tensors) as (m, kappa, x):
            x_slope, kappa_slope = _Slopes.apply(m, kappa, x, *ctx.rest)
            parts = [g * s for g, s in ((grad_kappa, kappa_slope), (grad_x, x_slope)) if g is not None]
            return sum(parts[1:], start=parts[0]), None, None

    @staticmethod
    def vmap(info, in_dims, m, kappa, x, *rest):
        return _Cosine.apply(*torch.broadcast_tensors(*lead(info, in_dims[:3], (m, kappa, x))), *rest), (0, 0, 0)


def _differentiable(name, value, with_slopes):
    """value(m, kappa, x) as a function of tensors of one dtype; with_slopes gives its slopes in x and kappa too."""
    message = f"{name} has first derivatives only, in kappa and its last argument"

    def call(m, kappa, x):
        m, kappa, x = torch.broadcast_tensors(m, kappa, x)
        needs_grad = torch.is_grad_enabled() and (m.requires_grad or kappa.requires_grad or x.requires_grad)
        under_transform = transformed()
        if not needs_grad and not under_transform:
            return value(m, kappa, x)
        if m.requires_grad or under_transform:
            m = Refuse.apply(m, f"{name} has no derivative in m: detach m")
        return _Cosine.apply(m, kappa, x, with_slopes, message)[0]

    call.__name__ = call.__qualname__ = name
    return allow_in_graph(call)


def _lower_with_slopes(m, kappa, w):
    lower, _, density, kappa_slope = _law(m, kappa, w)
    return lower, density, kappa_slope


def _upper_with_slopes(m, kappa, w):
    _, upper, density, kappa_slope = _law(m, kappa, w)
    return upper, -density, -kappa_slope


_cdf = _differentiable("vmf_cdf", lambda *args: _tails(*args)[0], _lower_with_slopes)
_sf = _differentiable("vmf_sf", lambda *args: _tails(*args)[1], _upper_with_slopes)
_icdf = _differentiable("vmf_icdf", lambda *args: _quantile(*args)[0], _quantile)


def _call(name, function, m, kappa, x, argument):
    kappa, x, result_dtype = promote(name, kappa, x, order="kappa", argument=argument)
    m, x, _ = promote(name, m, x, order="m", argument=argument, order_dtype_counts=False)
    y = function(beside(m, x), beside(kappa, x), x)
    return y if result_dtype is None else y.to(result_dtype)


def vmf_cdf(m: Real, kappa: Real, w: Real) -> Tensor:
    r"""P(μᵀz <= w), the distribution function of the cosine of vMF(μ, κ) in R^m.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.cosine. 0 for w <= -1, 1 for w >= 1. The derivative in
    w is the density f(w), that in κ is -f(w) (1-w²) ψ(w) with the ψ of sample_vmf's gradient.

    Accuracy: 1e-12 relative in whichever tail is smaller, down to e^-200, for whole m to 1e4 (float32: 1e-5; measured
    on random points against Arb: 6.4e-13 and 1.2e-6; a fractional m: 2e-12); 1 - vmf_cdf has not the digits of the
    upper tail, vmf_sf has.

    >>> vmf_cdf(3, 2.0, torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64))
    tensor([0.0000, 0.1192, 0.3561], dtype=torch.float64)
    """
    return _call("vmf_cdf", _cdf, m, kappa, w, "w")


def vmf_sf(m: Real, kappa: Real, w: Real) -> Tensor:
    r"""P(μᵀz > w) = 1 - vmf_cdf(m, kappa, w) without its cancellation; as vmf_cdf.

    >>> vmf_sf(41, 10.0, torch.tensor(0.9, dtype=torch.float64))
    tensor(6.7727e-13, dtype=torch.float64)
    """
    return _call("vmf_sf", _sf, m, kappa, w, "w")


def vmf_icdf(m: Real, kappa: Real, q: Real) -> Tensor:
    r"""The w with vmf_cdf(m, kappa, w) = q, 0 <= q <= 1; NaN for other q, -1 at 0 and 1 at 1.

    Arguments, shapes, dtypes and errors: see the head of vmf_ops.cosine. The derivative in q is 1/f(w), that in κ is
    (1-w²) ψ(w).

    Accuracy: vmf_cdf of it is q, or its complement 1 - q, to 1e-12 (float32: 1e-5) and what the rounding of w does.

    >>> vmf_icdf(3, 2.0, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    tensor([-1.0000,  0.6625,  1.0000], dtype=torch.float64)
    """
    return _call("vmf_icdf", _icdf, m, kappa, q, "q")
