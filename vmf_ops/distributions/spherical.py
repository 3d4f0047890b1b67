"""What all laws share."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from .._arguments import rounded
from .._shells import capturing
from .constraints import unit_vector


def validation(validate_args):
    """None is torch's default, but for tracing and vmap, where a check of the data cannot be expressed; while a CUDA
    graph is captured nothing is checked, since a check waits for the device."""
    if capturing():
        return False
    if validate_args is None and (
        torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return False
    return validate_args


def filled_like(value: Tensor, law: Distribution, number: float) -> Tensor:
    """number for each point of `value`, in its dtype if that has fractions, else the law's."""
    dtype = value.dtype if value.is_floating_point() else law._like.dtype
    shape = torch.broadcast_shapes(value.shape[:-1], law.batch_shape)
    return value.new_full(shape, rounded(number, dtype), dtype=dtype)


def expanded(t: Tensor, shape: torch.Size) -> Tensor:
    return t if t.shape == shape else t.expand(shape)


def check_parameters(law, normalized: bool):
    """Raises ValueError unless every mean direction has length 1 and every concentration is nonnegative.

    Normalising leaves NaN alone to look for, of a vector that is 0, infinite or NaN.
    """
    fits = (law.loc == law.loc).all(-1) if normalized else law.arg_constraints["loc"].check(law.loc)
    nonnegative = law.concentration >= 0
    if nonnegative.dim() > fits.dim():
        fits = fits.unsqueeze(-1)
    if (fits & nonnegative).all():
        return
    if not nonnegative.all():
        raise ValueError(f"concentration must be nonnegative, got {_worst(law.concentration, ~nonnegative)}")
    what = "is 0, infinite or NaN" if normalized else "has another length than 1"
    row = first_index(~fits.reshape(law.batch_shape))
    raise ValueError(f"loc must have a direction in each shell, but a vector{f' of row {row}' if row else ''} {what}")


def first_index(wrong: Tensor) -> tuple[int, ...]:
    return tuple(wrong.nonzero()[0].tolist())


def _worst(values: Tensor, wrong: Tensor) -> str:
    index = first_index(wrong)
    return f"{values[index].item():g} at index {index}"


class Spherical(Distribution):
    """What the four laws share: moves between devices and dtypes, and samples without a gradient."""

    has_rsample = True
    _parameters: tuple[str, ...] = ()

    def _initialise(self, batch_shape, event_shape, validate_args, valid=None, normalized=True):
        """Distribution's constructor with this package's own check, of arguments that are not known to be valid."""
        validate_args = validation(validate_args)
        super().__init__(batch_shape, event_shape, validate_args=False)
        self._validate_args = Distribution._validate_args if validate_args is None else validate_args
        if self._validate_args and self._parameters and not valid:
            check_parameters(self, normalized)

    def _validate_sample(self, value):
        if not capturing() and not (self.support is unit_vector and self._is_plainly_valid(value)):
            super()._validate_sample(value)

    def _is_plainly_valid(self, value) -> bool:
        """Whether value holds unit vectors, one for each law: what torch's check says, in half its time."""
        if type(value) is not Tensor or value.dtype not in (torch.float32, torch.float64) or not value.numel():
            return False
        if value.shape[-1:] != self._event_shape or value.shape[:-1] != self._batch_shape != ():
            return False
        return bool((value.square().sum(-1) - 1).abs().max() <= 2e-5)

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


def check_same_dims(p, q):
    if getattr(p, "dims", p.event_shape) != getattr(q, "dims", q.event_shape):
        raise ValueError(
            f"laws on different spheres: {getattr(p, 'dims', tuple(p.event_shape))} and "
            f"{getattr(q, 'dims', tuple(q.event_shape))}"
        )
