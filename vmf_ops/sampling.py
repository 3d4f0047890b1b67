"""Exact draws from the von Mises-Fisher law on many shells at once, with gradients."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from . import _C  # noqa: F401  (loads the ops)
from ._arguments import refuse_kept_axis, sizes
from ._autograd import Function, transformed
from ._compile import allow_in_graph
from ._sharded import FROM_ZERO, is_distributed
from ._sharded import sample as sample_sharded
from ._shells import check_dims, constant
from .special import iv_ratio, iv_ratio_c

__all__ = ["rsvi_correction", "sample_vmf"]

_GRADIENTS = ("implicit", "rsvi")
_COMPUTED = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}

_op = torch.ops.vmf_ops.sample_vmf.default
_backward_op = torch.ops.vmf_ops.sample_vmf_backward.default
_forward_ad_op = torch.ops.vmf_ops.sample_vmf_forward_ad.default


@torch.library.register_fake("vmf_ops::sample_vmf")
def _(loc, kappa, dims, key, rows, numbers=FROM_ZERO, with_cosine=True):
    cosine = (*key.shape, 2, len(dims), rows) if with_cosine else (0,)
    return loc.new_empty((*key.shape, rows, loc.size(-1))), loc.new_empty(cosine)


@torch.library.register_fake("vmf_ops::sample_vmf_backward")
def _(z_grad, z, cosine, loc, kappa, dims, implicit, loc_wanted, kappa_wanted):
    return (
        loc.new_empty(z.shape if loc_wanted else (0,)),
        loc.new_empty((*z.shape[:-1], len(dims)) if kappa_wanted else (0,)),
    )


@torch.library.register_fake("vmf_ops::sample_vmf_forward_ad")
def _(loc_tangent, kappa_tangent, z, cosine, loc, kappa, dims, implicit):
    return z.new_empty(z.shape)


# The ops work on slices (csrc/bindings.cpp): everything has a leading dimension, of 1 where all slices share it, and a
# slice has its own key. vmap adds its dimension to the slices; the rows' random numbers do not depend on it. Without
# vmap the key has no dimension, and slices are left out.


def _merge(info, in_dims, tensors, slices):
    """The tensors with vmap's dimension merged into their slices, and the number of slices then."""
    total = info.batch_size * slices
    merged = []
    for t, d in zip(tensors, in_dims, strict=True):
        if d is None:
            t = t if t.size(0) == 1 else t.expand(info.batch_size, *t.shape).reshape(total, *t.shape[1:])
        else:
            t = t.movedim(d, 0)
            t = t.expand(info.batch_size, slices, *t.shape[2:]).reshape(total, *t.shape[2:])
        merged.append(t)
    return merged, total


def _full(t: Tensor, slices: int) -> Tensor:
    return t if t.size(0) == slices else t.expand(slices, *t.shape[1:])


def _unmerge(info, t: Tensor) -> Tensor:
    return t.reshape(info.batch_size, -1, *t.shape[1:])


class _FirstOrder(torch.autograd.Function):
    """A function that takes part in a first derivative, and so must not itself be differentiated."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("sample_vmf has first derivatives in loc and kappa only")

    @staticmethod
    def jvp(ctx, *tangents):
        raise NotImplementedError("sample_vmf has first derivatives in loc and kappa only")


class _Backward(_FirstOrder):
    @staticmethod
    def forward(z_grad, z, cosine, loc, kappa, dims, implicit, loc_wanted, kappa_wanted):
        return _backward_op(z_grad, z, cosine, loc, kappa, dims, implicit, loc_wanted, kappa_wanted)

    @staticmethod
    def vmap(info, in_dims, *args):
        slices = args[1].size(0 if in_dims[1] is None or in_dims[1] > 0 else 1)
        (z_grad, z, cosine, loc, kappa), total = _merge(info, in_dims[:5], args[:5], slices)
        z_grad, z, cosine = (_full(t, total) for t in (z_grad, z, cosine))
        grads = _Backward.apply(z_grad, z, cosine, loc, kappa, *args[5:])
        wanted = args[7:]
        return (
            tuple(_unmerge(info, g) if w else g for g, w in zip(grads, wanted, strict=True)),
            tuple(0 if w else None for w in wanted),
        )


class _ForwardAD(_FirstOrder):
    @staticmethod
    def forward(loc_tangent, kappa_tangent, z, cosine, loc, kappa, dims, implicit):
        return _forward_ad_op(loc_tangent, kappa_tangent, z, cosine, loc, kappa, dims, implicit)

    @staticmethod
    def vmap(info, in_dims, *args):
        slices = args[2].size(0 if in_dims[2] is None or in_dims[2] > 0 else 1)
        (loc_tangent, kappa_tangent, z, cosine, loc, kappa), total = _merge(info, in_dims[:6], args[:6], slices)
        z, cosine = _full(z, total), _full(cosine, total)
        loc_tangent, loc = _alike(loc_tangent, loc)
        kappa_tangent, kappa = _alike(kappa_tangent, kappa)
        out = _ForwardAD.apply(loc_tangent, kappa_tangent, z, cosine, loc, kappa, *args[6:])
        return _unmerge(info, out), 0


def _alike(a: Tensor, b: Tensor):
    slices = max(a.size(0), b.size(0))
    return _full(a, slices), _full(b, slices)


def _sum_repeats(grad: Tensor, like: Tensor) -> Tensor:
    """The gradient of `like` (slices or 1, L, n) from those of the rows that repeat it (slices, R, n)."""
    if grad.size(1) != like.size(1):
        grad = grad.unflatten(1, (-1, like.size(1))).sum(1) if grad.size(1) else grad.new_zeros(like.shape)
    return grad if grad.size(0) == like.size(0) else grad.sum(0, keepdim=True)


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(loc, kappa, key, dims, rows, implicit, numbers):
        return _op(loc, kappa, dims, key, rows, numbers)

    @staticmethod
    def setup_context(ctx, inputs, output):
        loc, kappa, _, ctx.dims, _, ctx.implicit, _ = inputs
        z, cosine = output
        ctx.mark_non_differentiable(cosine)
        ctx.save_for_backward(z, cosine, loc, kappa)
        ctx.save_for_forward(z, cosine, loc, kappa)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, z_grad, _):
        if z_grad is None:
            return (None,) * 7
        z, cosine, loc, kappa = ctx.saved_tensors
        loc_wanted, kappa_wanted = ctx.needs_input_grad[:2]
        args = (z_grad, z, cosine, loc, kappa, ctx.dims, ctx.implicit, loc_wanted, kappa_wanted)
        function = _Backward.apply if torch.is_grad_enabled() or transformed() else _backward_op
        loc_grad, kappa_grad = function(*args)
        return (
            _sum_repeats(loc_grad, loc) if loc_wanted else None,
            _sum_repeats(kappa_grad, kappa) if kappa_wanted else None,
            *(None,) * 5,
        )

    @staticmethod
    def jvp(ctx, loc_tangent, kappa_tangent, *_):
        z, cosine, loc, kappa = ctx.saved_tensors
        loc_tangent = torch.zeros_like(loc) if loc_tangent is None else loc_tangent
        kappa_tangent = torch.zeros_like(kappa) if kappa_tangent is None else kappa_tangent
        return _ForwardAD.apply(loc_tangent, kappa_tangent, z, cosine, loc, kappa, ctx.dims, ctx.implicit), None

    @staticmethod
    def vmap(info, in_dims, loc, kappa, key, *rest):
        slices = key.size(0 if in_dims[2] is None or in_dims[2] > 0 else 1)
        (loc, kappa, key), total = _merge(info, in_dims[:3], (loc, kappa, key), slices)
        z, cosine = _Sample.apply(loc, kappa, _full(key, total), *rest)
        return (_unmerge(info, z), _unmerge(info, cosine)), (0, 0)


def _repeating(t: Tensor, batch: tuple[int, ...]) -> Tensor:
    """t, whose rows one after the other must repeat to fill the batch; expanded where they repeat in another way."""
    shape = t.shape[:-1]
    if shape == batch:
        return t
    while shape and shape[0] == 1:
        shape = shape[1:]
    return t if shape == batch[len(batch) - len(shape) :] else t.expand(*batch, t.size(-1))


def _like(grad: Tensor, t: Tensor) -> Tensor:
    """The gradient of t, whose rows repeat, from those of all rows (R, n)."""
    if grad.shape == t.shape:
        return grad
    if grad.numel() == t.numel():
        return grad.view(t.shape)
    return grad.view(-1, t.numel()).sum(0).view(t.shape) if t.numel() else torch.zeros_like(t)


class _SampleEagerly(Function):
    """_Sample outside of every transform, of one slice and without its dimension: the short way of a small call."""

    @staticmethod
    def forward(ctx, loc, kappa, key, dims, rows, implicit, numbers):
        z, cosine = _op(loc, kappa, dims, key, rows, numbers)
        ctx.dims, ctx.implicit = dims, implicit
        ctx.save_for_backward(z, cosine, loc, kappa)
        return z

    @staticmethod
    def backward(ctx, z_grad):
        z, cosine, loc, kappa = ctx.saved_tensors
        loc_wanted, kappa_wanted = ctx.needs_input_grad[:2]
        function = _Backward.apply if torch.is_grad_enabled() or transformed() else _backward_op
        loc_grad, kappa_grad = function(z_grad, z, cosine, loc, kappa, ctx.dims, ctx.implicit, loc_wanted, kappa_wanted)
        return (
            _like(loc_grad, loc) if loc_wanted else None,
            _like(kappa_grad, kappa) if kappa_wanted else None,
            *(None,) * 5,
        )


@allow_in_graph
def _sample(
    loc: Tensor,
    kappa: Tensor,
    key: Tensor,
    dims: tuple[int, ...],
    shape: tuple[int, ...],
    implicit: bool,
    numbers: tuple[int, ...] = FROM_ZERO,
) -> Tensor:
    """The draw of shape (*shape, sum of dims) from loc and kappa of one dtype, whose rows repeat to fill it."""
    rows = math.prod(shape)
    if transformed():
        loc, kappa = loc.reshape(1, -1, loc.size(-1)), kappa.reshape(1, -1, len(dims))
        z, _ = _Sample.apply(loc, kappa, key.unsqueeze(0), dims, rows, implicit, numbers)
    elif torch.is_grad_enabled() and (loc.requires_grad or kappa.requires_grad):
        z = _SampleEagerly.apply(loc, kappa, key, dims, rows, implicit, numbers)
    else:
        z, _ = _op(loc, kappa, dims, key, rows, numbers, False)  # the cosine is what derivatives need
    return z if z.dim() == 2 and len(shape) == 1 else z.view(*shape, loc.size(-1))


def _described(t) -> str:
    return f"{t.dtype} of shape {tuple(t.shape)}" if isinstance(t, Tensor) else type(t).__name__


def _check(name: str, loc: Tensor, kappa: Tensor, dims) -> tuple[tuple[int, ...], torch.dtype]:
    """dims as a tuple, and the dtype of the result."""
    if not isinstance(loc, Tensor) or not isinstance(kappa, Tensor):
        raise TypeError(f"{name}: expected tensors, got loc {_described(loc)} and kappa {_described(kappa)}")
    dtype, other = loc.dtype, kappa.dtype
    if dtype not in _COMPUTED or other not in _COMPUTED:
        raise TypeError(
            f"{name}: expected loc and kappa in float16, bfloat16, float32 or float64, "
            f"got loc {_described(loc)} and kappa {_described(kappa)}"
        )
    if dtype is not other:
        dtype = torch.promote_types(dtype, other)
    if loc.device != kappa.device:
        raise ValueError(f"{name}: expected loc and kappa on one device, got {loc.device} and {kappa.device}")
    if loc.dim() == 0 or kappa.dim() == 0:
        raise ValueError(
            f"{name}: expected loc (..., sum of dims) and kappa (..., number of shells), {_shapes(loc, kappa)}"
        )
    size = loc.shape[-1]
    if dims is None and size >= 2:
        dims = (size,)
    else:
        try:
            dims = check_dims((size,) if dims is None else dims, f"{name}: ")
        except ValueError as error:
            raise ValueError(f"{error}; {_shapes(loc, kappa)}") from None
    if size != sum(dims) or kappa.shape[-1] != len(dims):
        raise ValueError(
            f"{name}: dims {dims} need loc (..., {sum(dims)}) and kappa (..., {len(dims)}), {_shapes(loc, kappa)}"
        )
    return dims, dtype


def _shapes(loc: Tensor, kappa: Tensor) -> str:
    return f"got loc of shape {tuple(loc.shape)} and kappa of shape {tuple(kappa.shape)}"


def sample_vmf(
    loc: Tensor,
    kappa: Tensor,
    dims: Sequence[int] | None = None,
    *,
    sample_shape: Sequence[int] = (),
    gradient: str = "implicit",
    generator: Generator | None = None,
) -> Tensor:
    r"""Draws from the product of von Mises-Fisher laws on K shells, :math:`q(z) = \prod_k C_{m_k}(\kappa_k)
    e^{\kappa_k \mu_k^T z_k}`, exactly and in one kernel.

    Args:
        loc: (..., sum of dims), the unit mean directions of the shells side by side. That each is of unit length is
            the caller's promise; the draw is of unit length as far as loc is.
        kappa: (..., K), the concentrations; broadcasts with loc. 0 is the uniform law. Negative or NaN gives NaN in
            that shell only. Exact to kappa = 1e8 and beyond in float32 and float64.
        dims: the K ambient dimensions m >= 2 of the shells; None for one shell, with kappa (..., 1).
        sample_shape: how many draws of each, as leading dimensions.
        gradient: "implicit", for unbiased gradients of every expectation of the draws (Figurnov, Mohamed, Mnih 2018),
            or "rsvi", the derivative of the accepted proposal alone, as in Davidson et al. (2018): cheaper, biased at
            every m but 3, where both agree; :func:`rsvi_correction` is what it lacks.
        generator: of loc's device, for the key of the draw; default torch's own, so torch.manual_seed repeats draws.

    Returns:
        Tensor: sample_shape + (..., sum of dims), of loc's and kappa's promoted dtype. float16 and bfloat16 are
        computed in float32.

    Gradients are of first order, in reverse and forward mode; a second derivative raises NotImplementedError. In loc
    the draw follows the rotation that takes the mean direction along, which has the derivative
    :math:`g \mapsto (\mu^T z) g - (g^T \mu) z`. Relative error of dz/dkappa: at most 3.2e-10 in float64,
    2.0e-5 in float32.

    A draw depends on its key, its row and its shell only: not on threads, and on the instruction set or the device to
    rounding. Under torch.vmap, randomness="different" draws a key per slice, "same" one for all.

    Raises:
        TypeError: a loc or kappa that is no floating tensor, or dims that are no integers.
        ValueError: shapes that do not fit dims or each other, or an unknown gradient.

    References: Wood (1994), Simulation of the von Mises Fisher distribution; Ulrich (1984); csrc/math/sampling.h and
    csrc/math/psi.h have the forms used.

    Example:
        >>> loc = torch.nn.functional.normalize(torch.ones(2, 3), dim=-1)
        >>> z = vmf_ops.sample_vmf(loc, torch.tensor([[10.0], [1e6]]), sample_shape=(5,))
        >>> z.shape
        torch.Size([5, 2, 3])
        >>> bool((z[:, 1] @ loc[1] > 0.999).all())
        True
    """
    dims, dtype = _check("sample_vmf", loc, kappa, dims)
    batch = loc.shape[:-1]
    if batch != kappa.shape[:-1]:
        try:
            batch = torch.broadcast_shapes(batch, kappa.shape[:-1])
        except RuntimeError:
            raise ValueError(f"sample_vmf: expected loc and kappa that broadcast, {_shapes(loc, kappa)}") from None
    if is_distributed(loc, kappa):
        options = (sample_shape, gradient, None, dtype)

        def draw_rows(loc, kappa, key, batch, numbers):
            return draw(_repeating(loc, batch), _repeating(kappa, batch), dims, batch, *options, key, numbers)

        return sample_sharded(loc, kappa, batch, sample_shape, _new_key(generator, loc.device), draw_rows)
    if loc.shape[:-1] != kappa.shape[:-1]:
        loc, kappa = _repeating(loc, batch), _repeating(kappa, batch)
    return draw(loc, kappa, dims, batch, sample_shape, gradient, generator, dtype)


def _new_key(generator, device) -> Tensor:
    # Drawn here, as a tensor: compiled graphs, vmap and checkpointing then treat the draw as they treat torch's own.
    # Under export of one dimension first: AOTInductor loses an empty list of sizes.
    traced = torch.compiler.is_compiling()
    key = torch.randint(-(2**63), 2**63 - 1, (1,) if traced else (), generator=generator, device=device)
    return key.squeeze(0) if traced else key


def draw(loc, kappa, dims, batch, sample_shape, gradient, generator, dtype=None, key=None, numbers=FROM_ZERO) -> Tensor:
    """sample_vmf of parameters whose rows, in order, repeat to fill the batch; kappa may lack its last dimension."""
    if gradient not in _GRADIENTS:
        raise ValueError(f'sample_vmf: expected gradient "implicit" or "rsvi", got {gradient!r}')
    if sample_shape != ():
        sample_shape = sizes(sample_shape)
        if min(sample_shape, default=0) < 0:
            raise ValueError(f"sample_vmf: expected sizes of at least 0 in sample_shape, got {tuple(sample_shape)}")
        batch = sample_shape + batch
    if dtype is None:
        dtype = loc.dtype
    compute = _COMPUTED[dtype]
    if loc.dtype != compute:
        loc = loc.to(compute)
    if kappa.dtype != compute:
        kappa = kappa.to(compute)
    key = _new_key(generator, loc.device) if key is None else key
    z = _sample(loc, kappa, key, dims, tuple(batch), gradient == "implicit", numbers)
    return z if dtype is compute else z.to(dtype)


def rsvi_correction(f: Tensor, z: Tensor, loc: Tensor, kappa: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    r"""What :func:`sample_vmf`'s "rsvi" gradient of an expectation in kappa lacks, one term per shell and sample:

    .. math:: f(z)\, \Big(\mu^T z - A_m(\kappa) + \frac{\kappa (1 - w^2) - (m-1) w}{S}\Big),\quad w = \mu^T z,\
        S = \sqrt{(m-1)^2 + 4 \kappa^2},

    the score of the accepted proposals (g_cor in Naesseth et al. 2017 and Davidson et al. 2018).

    Args:
        f: (...), the integrand at each sample.
        z: (..., sum of dims), the samples, from ``sample_vmf(loc, kappa, dims, gradient="rsvi")``.
        loc, kappa, dims: what they were drawn with.

    Returns:
        Tensor: (..., K), detached. Its mean over the samples, added to the "rsvi" gradient of the mean of f in kappa,
        is unbiased. As a loss: ``f.mean() + (rsvi_correction(f, z, loc, kappa, dims) * kappa).sum(-1).mean()`` has that
        gradient. Zero at m = 3. NaN where kappa is out of the domain. Errors as sample_vmf.

    Example:
        >>> loc, kappa = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]])
        >>> z = vmf_ops.sample_vmf(loc, kappa, sample_shape=(4,), gradient="rsvi")
        >>> vmf_ops.rsvi_correction(z[..., 0], z, loc, kappa).shape
        torch.Size([4, 1, 1])
    """
    dims, dtype = _check("rsvi_correction", loc, kappa, dims)
    if not isinstance(f, Tensor) or not isinstance(z, Tensor):
        raise TypeError(f"rsvi_correction: expected tensors, got f {_described(f)} and z {_described(z)}")
    if z.shape[-1:] != loc.shape[-1:]:
        raise ValueError(
            f"rsvi_correction: expected samples of loc, got z of shape {tuple(z.shape)} and loc of {tuple(loc.shape)}"
        )
    refuse_kept_axis("f", f, "z", z)
    try:
        torch.broadcast_shapes(f.shape, z.shape[:-1])
        torch.broadcast_shapes(z.shape[:-1], loc.shape[:-1], kappa.shape[:-1])
    except RuntimeError:
        raise ValueError(
            "rsvi_correction: expected one f per sample, and samples of loc and kappa, got shapes f "
            f"{tuple(f.shape)}, z {tuple(z.shape)}, loc {tuple(loc.shape)} and kappa {tuple(kappa.shape)}"
        ) from None
    compute = _COMPUTED[dtype]
    with torch.no_grad():
        f, z, loc, kappa = (t.detach().to(compute) for t in (f, z, loc, kappa))
        # |z - mu|^2 = 2d and |z + mu|^2 = 2c: neither d nor c by cancellation.
        halves = (0.5 * (z - loc).square(), 0.5 * (z + loc).square())
        d, c = (torch.stack([part.sum(-1) for part in t.split(dims, -1)], -1) for t in halves)
        m = constant(dims, compute, loc.device)
        w, n = 1 - d, m - 1
        deviation = torch.where(d < 1, iv_ratio_c(m / 2, kappa) - d, w - iv_ratio(m / 2, kappa))
        score = deviation + (kappa * d * c - n * w) / torch.sqrt(n * n + 4 * kappa * kappa)
        return (f.unsqueeze(-1) * torch.where((m == 3) & (kappa >= 0), torch.zeros_like(score), score)).to(dtype)
