"""What all laws share."""

import torch
from torch import Tensor
from torch.distributions import Distribution


def validation(validate_args):
    """None is torch's default, but for tracing and vmap, where a check of the data cannot be expressed."""
    if validate_args is None and (
        torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return False
    return validate_args


def filled_like(value: Tensor, law: Distribution, number: float) -> Tensor:
    """number for each point of `value`, in its dtype if that has fractions, else the law's."""
    dtype = value.dtype if value.is_floating_point() else law._like.dtype
    return value.new_full(torch.broadcast_shapes(value.shape[:-1], law.batch_shape), number, dtype=dtype)


def expanded(t: Tensor, shape: torch.Size) -> Tensor:
    return t if t.shape == shape else t.expand(shape)


class Spherical(Distribution):
    """What the four laws share: moves between devices and dtypes, and samples without a gradient."""

    has_rsample = True
    _parameters: tuple[str, ...] = ()

    def _initialise(self, batch_shape, event_shape, validate_args, valid):
        """Distribution's constructor, which need not look at arguments that are known to be valid."""
        validate_args = validation(validate_args)
        super().__init__(batch_shape, event_shape, validate_args=False if valid else validate_args)
        if valid:
            self._validate_args = Distribution._validate_args if validate_args is None else validate_args

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
            f"KL divergence of laws on different spheres: {getattr(p, 'dims', tuple(p.event_shape))} and "
            f"{getattr(q, 'dims', tuple(q.event_shape))}"
        )
