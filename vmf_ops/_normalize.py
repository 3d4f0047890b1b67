"""Vectors side by side brought to unit length: by one op on the CPU, elsewhere and under transforms by torch's own."""

import torch
from torch import Tensor

from . import _C  # noqa: F401  (loads the ops)
from ._autograd import Function, transformed

_op = torch.ops.vmf_ops.normalize_shells.default
_backward_op = torch.ops.vmf_ops.normalize_shells_backward.default


def _composed(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    if len(dims) == 1:
        # The largest coordinate as unit, so that no square overflows or vanishes.
        x = x / x.detach().abs().amax(-1, keepdim=True)
        # vector_norm sums 1e6 coordinates to 1e-5 in float32; a square sum of them overflows in half.
        squares = x.square().sum(-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        return (x / squares.sqrt()).to(x.dtype)
    return torch.cat([_composed(part, (part.shape[-1],)) for part in x.split(dims, -1)], -1)


class _Normalize(Function):
    @staticmethod
    def forward(ctx, x, dims, concentration):
        unit, length, valid = _op(x, dims, concentration)
        ctx.dims = dims
        ctx.save_for_backward(x, unit, length)
        return unit, valid

    @staticmethod
    def backward(ctx, grad, _):
        x, unit, length = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed():  # to be differentiated in turn
            with torch.enable_grad():
                (x_grad,) = torch.autograd.grad(_composed(x, ctx.dims), x, grad, create_graph=True)
            return x_grad, None, None
        return _backward_op(grad, unit, length, ctx.dims), None, None


def fused(x: Tensor) -> bool:
    """Whether x is a tensor that the op takes: of the CPU, in float32 or float64, and nothing looks on."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and x.is_cpu
        and x.dtype in (torch.float32, torch.float64)
        and not transformed()
        and not torch._C._len_torch_dispatch_stack()
    )


def normalized_and_valid(x: Tensor, dims: tuple[int, ...], concentration: Tensor) -> tuple[Tensor, bool | None]:
    """normalized(x, dims), and whether each has a direction and each concentration is at least 0; None: not looked."""
    if not fused(x) or not fused(concentration):
        return _composed(x, dims), None
    if concentration.requires_grad:  # only looked at
        concentration = concentration.detach()
    if torch.is_grad_enabled() and x.requires_grad:
        return _Normalize.apply(x, dims, concentration)
    unit, _, valid = _op(x, dims, concentration)
    return unit, valid


def normalized(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Each of the vectors side by side in (..., sum of dims) divided by its length; NaN for one without a direction."""
    if not fused(x):
        return _composed(x, dims)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Normalize.apply(x, dims, None)[0]
    return _op(x, dims, None)[0]
