"""The one way in which this package makes element-wise functions of (order, argument) differentiable.

A C++ op pair (value; value and slope) becomes a function that passes autograd in every mode: reverse and forward, any
order in the argument, torch.func, torch.compile and torch.export.
"""

import contextlib
from numbers import Real

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._compile import allow_in_graph
from ._sharded import elementwise_ops, is_distributed, register_elementwise

_HALF = (torch.float16, torch.bfloat16)


def _fake_value(v, x):
    return x.new_empty(torch.broadcast_shapes(v.shape, x.shape))


def _fake_value_and_slope(v, x):
    return _fake_value(v, x), _fake_value(v, x)


def op(name: str, outputs: int = 1):
    """The C++ op of that name, with its shape rule registered for meta and fake tensors."""
    torch.library.register_fake(f"vmf_ops::{name}")(_fake_value if outputs == 1 else _fake_value_and_slope)
    overload = getattr(torch.ops.vmf_ops, name).default
    elementwise_ops.append(overload)
    return overload


def transformed() -> bool:
    """Whether a torch.func transform or forward-mode AD is active, which must see an autograd.Function."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@contextlib.contextmanager
def outer_jvp(tensors):
    """The saved tensors of a jvp rule, differentiable by a jvp around this one.

    torch runs such a rule with forward mode off: a jvp of a jvp would silently be 0.
    """
    stack = torch._C._functorch.get_interpreter_stack() or []
    if sum(level.key() == torch._C._functorch.TransformType.Jvp for level in stack) < 2:
        yield tensors
    elif torch.compiler.is_compiling():  # where torch cannot tell the two levels apart
        raise NotImplementedError("a jvp of a jvp cannot be compiled: call it outside of torch.compile")
    else:
        with forward_ad._set_fwd_grad_enabled(True):
            yield tuple(forward_ad.unpack_dual(t).primal for t in tensors)


def lead(info, in_dims, args):
    """The arguments with their vmapped dimension first, or with one of size 1, and of equal rank."""
    rank = max(a.dim() - (d is not None) for a, d in zip(args, in_dims, strict=True))
    for a, d in zip(args, in_dims, strict=True):
        if d is None:
            yield a
        else:
            a = a.movedim(d, 0)
            yield a.reshape(a.shape[:1] + (1,) * (rank - a.dim() + 1) + a.shape[1:])


class Function(torch.autograd.Function):
    """An autograd.Function whose call skips what only torch.func needs: 25 us of signature binding."""

    @classmethod
    def apply(cls, *args):
        if transformed():
            return super().apply(*args)
        return super(torch.autograd.Function, cls).apply(*args)


class Refuse(Function):
    """The identity, whose derivative raises: it guards an input in which a function has none."""

    @staticmethod
    def forward(x, message):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.message = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError(ctx.message)

    @staticmethod
    def jvp(ctx, grad, _):
        raise NotImplementedError(ctx.message)

    @staticmethod
    def vmap(info, in_dims, x, message):
        return Refuse.apply(x, message), in_dims[0]


def _number(value, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A Python number as a tensor beside x. On the CPU where x is on a GPU: the ops read it and launch nothing for it.

    Not in what torch traces or transforms, where a tensor of the CPU keeps a graph from being a CUDA graph.
    """
    on_cpu = x.device.type in ("cuda", "meta") and not (
        torch.compiler.is_compiling() or transformed() or torch._C._len_torch_dispatch_stack()
    )
    return torch.full((), value, dtype=dtype, device="cpu" if on_cpu else x.device)


def beside(v: Tensor, x: Tensor) -> Tensor:
    """v on x's device, for torch's own operations, which would copy a _number of the CPU and wait."""
    return v if v.device == x.device else torch.full_like(v, v.item(), device=x.device)


def differentiable(name, value, value_and_slope=None, *, slope=None, order_slope=None, order="v", advice=None):
    """A function f(v, x) of tensors of one dtype, differentiable in the inputs whose slopes are given.

    value, value_and_slope: ops. slope(v, x, f): the differentiable df/dx; order_slope(v, x, f): df/dv, for first
    derivatives. A derivative in an input without one raises NotImplementedError, naming the order as `order`, with that
    advice.
    """
    if advice is None:
        advice = "only first derivatives, not mixed with others" if order_slope else f"detach {order}"
    refusal = f"{name} has no such derivative in {order}: {advice}"

    class Elementwise(Function):
        @staticmethod
        def forward(v, x, with_slope):
            if with_slope:
                return value_and_slope(v, x)
            return value(v, x), None

        @staticmethod
        def setup_context(ctx, inputs, output):
            v, x, _ = inputs
            f, df = output
            if df is not None:
                ctx.mark_non_differentiable(df)
            ctx.save_for_backward(v, x, f, df)
            ctx.save_for_forward(v, x, f)
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, grad, _):
            v, x, f, df = ctx.saved_tensors
            grad_v = grad_x = None
            if grad is not None and slope and ctx.needs_input_grad[1]:
                # A derivative of this derivative needs the slope as a function, not as a saved number.
                if df is None or torch.is_grad_enabled():
                    df = slope(beside(v, x), x, f)
                grad_x = (grad * df).sum_to_size(x.shape)
            if grad is not None and order_slope and ctx.needs_input_grad[0]:
                grad_v = (grad * order_slope(v, x, f)).sum_to_size(v.shape)
            return grad_v, grad_x, None

        @staticmethod
        def jvp(ctx, grad_v, grad_x, _):
            with outer_jvp(ctx.saved_tensors) as (v, x, f):
                tangent = None
                if grad_x is not None:
                    tangent = grad_x * slope(v, x, f)
                if grad_v is not None:
                    part = grad_v * order_slope(v, x, f)
                    tangent = part if tangent is None else tangent + part
                return tangent, None

        @staticmethod
        def vmap(info, in_dims, v, x, with_slope):
            out = Elementwise.apply(*lead(info, in_dims[:2], (v, x)), with_slope)
            return out, (0, 0 if with_slope else None)

    Elementwise.__name__ = Elementwise.__qualname__ = name

    def call(v: Tensor, x: Tensor) -> Tensor:
        needs_grad = torch.is_grad_enabled() and (x.requires_grad or v.requires_grad)
        under_transform = transformed()
        if not needs_grad and not under_transform:
            return value(v, x)
        if order_slope is None and (under_transform or v.requires_grad):
            v = Refuse.apply(v, refusal)
        if slope is None and (under_transform or x.requires_grad):
            x = Refuse.apply(x, refusal)
        return Elementwise.apply(v, x, value_and_slope is not None and needs_grad and x.requires_grad)[0]

    call.__name__ = call.__qualname__ = name
    return allow_in_graph(call)


def promote(name, v, x, *, order="v", argument="x", order_dtype_counts=True):
    """v and x as tensors of one floating dtype on one device, by torch's promotion; and the dtype of the result.

    Python numbers take the other's dtype, integers the default dtype, half and bfloat16 are computed in float32. Where
    not order_dtype_counts, the order (a dimension) takes the argument's dtype whatever its own.
    """
    if type(x) is Tensor and x.dtype in (torch.float32, torch.float64):  # the common case, without a dispatch
        if type(v) is Tensor:
            if v.dtype == x.dtype and v.device == x.device:
                return v, x, None
        elif type(v) in (float, int):
            return _number(v, x, x.dtype), x, None
    for value, label in ((v, order), (x, argument)):
        if not isinstance(value, (Tensor, Real)) or isinstance(value, bool):
            raise TypeError(f"{name}: expected {label} to be a tensor or a real number, got {type(value).__name__}")
        if isinstance(value, Tensor) and value.is_complex():
            raise TypeError(f"{name}: expected real {label}, got {value.dtype}")
    # Numbers, NumPy's among them, have no dtype of their own.
    v, x = (value if isinstance(value, Tensor) else float(value) for value in (v, x))
    if not isinstance(x, Tensor) and not (order_dtype_counts and isinstance(v, Tensor)):
        x = torch.tensor(x, device=v.device if isinstance(v, Tensor) else None)
    dtype = torch.result_type(v, x) if order_dtype_counts else x.dtype
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    device = x.device if isinstance(x, Tensor) and (x.dim() or not isinstance(v, Tensor)) else v.device
    compute = torch.float32 if dtype in _HALF else dtype
    if compute not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: expected float16, bfloat16, float32 or float64, got {dtype}")
    tensors = []
    for value, label in ((v, order), (x, argument)):
        if not isinstance(value, Tensor):
            if label == order and not is_distributed(x):
                value = _number(value, x, compute)
            else:
                value = torch.full((), value, dtype=compute, device=device)
        elif value.device != device:
            if value.dim() or value.device.type != "cpu":
                raise RuntimeError(
                    f"{name}: expected all tensors on one device, got {label} on {value.device}, not on {device}"
                )
            value = value.to(device)
        tensors.append(value.to(compute))
    if is_distributed(*tensors):
        register_elementwise()
    return *tensors, dtype if dtype is not compute else None
