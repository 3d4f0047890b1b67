"""DTensor: the element-wise ops and the sampler on tensors that are sharded over a device mesh.

torch.distributed.tensor is not imported here before a DTensor has been: that takes a second.
"""

import functools
import math
import sys

import torch
from torch import Tensor

FROM_ZERO = (0, 2**62, 0)
"""The numbers of a whole draw's rows in the random stream: first, run and gap (csrc/draw.h)."""

elementwise_ops: list = []
"""Every op of broadcast tensors; its results are sharded as its inputs are, in any dimension that none repeats in."""


def is_distributed(*tensors) -> bool:
    """Whether a DTensor is among these."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and any(isinstance(t, module.DTensor) for t in tensors)


@functools.cache
def register_elementwise():
    """Tells DTensor how the element-wise ops may be sharded."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.experimental import register_sharding

    def rule(outputs, *inputs):
        is_tensor = [hasattr(t, "shape") for t in inputs]
        shape = torch.broadcast_shapes(*(t.shape for t, one in zip(inputs, is_tensor, strict=True) if one))
        choices = [([Replicate()] * outputs, [Replicate() if one else None for one in is_tensor])]
        for dim in range(len(shape)):
            placements = []
            for t, one in zip(inputs, is_tensor, strict=True):
                if not one:
                    placements.append(None)
                    continue
                own = dim - (len(shape) - len(t.shape))
                placements.append(Shard(own) if own >= 0 and t.shape[own] == shape[dim] else Replicate())
            choices.append(([Shard(dim)] * outputs, placements))
        return choices

    for op in elementwise_ops:
        register_sharding(op)(functools.partial(rule, len(op._schema.returns)))


def _shard_of_batch(t, batch: torch.Size, name: str) -> list:
    """The dimension of the batch in which t is sharded along each dimension of the mesh, or None."""
    found = []
    for placement in t.placements:
        if placement.is_shard():
            dim = placement.dim - (t.dim() - 1)
            if dim >= 0:
                raise ValueError(
                    f"sample_vmf: {name} is sharded in its last dimension, where a row's shells lie side by side: "
                    f"redistribute it to Replicate() or to a shard of its rows; it has {t.placements}"
                )
            found.append(len(batch) + dim)
        elif placement.is_replicate():
            found.append(None)
        else:
            raise ValueError(f"sample_vmf: {name} must be a sum no more, but has {t.placements}: redistribute it")
    return found


def sample(loc, kappa, batch: torch.Size, sample_shape: torch.Size, key: Tensor, draw_rows):
    """The draw of DTensors, sharded in the batch as loc and kappa are: each process makes its own rows of the draw that
    the whole would be. draw_rows(loc, kappa, key, batch, numbers): of the local tensors."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    for name, t in (("loc", loc), ("kappa", kappa)):
        if not isinstance(t, DTensor):
            raise TypeError(f"sample_vmf: expected loc and kappa both as DTensors, got {name} as {type(t).__name__}")
    mesh = loc.device_mesh
    if kappa.device_mesh != mesh:
        raise ValueError(f"sample_vmf: expected one device mesh, got {mesh} for loc and {kappa.device_mesh} for kappa")
    ours, theirs = _shard_of_batch(loc, batch, "loc"), _shard_of_batch(kappa, batch, "kappa")
    dims = [a if a is not None else b for a, b in zip(ours, theirs, strict=True)]
    sharded = {dim for dim in (*ours, *theirs) if dim is not None}
    if len(sharded) > 1:
        raise ValueError(
            "sample_vmf: loc and kappa must be sharded in one and the same dimension of the batch, got placements "
            f"{loc.placements} for loc {tuple(loc.shape)} and {kappa.placements} for kappa {tuple(kappa.shape)}"
        )
    placements = [Replicate() if dim is None else Shard(dim) for dim in dims]

    def local(t):
        # Where t repeats along the sharded dimension, each process holds all of it and adds to its gradient.
        own = [None if dim is None else dim - (len(batch) - (t.dim() - 1)) for dim in dims]
        split = [dim is not None and dim >= 0 and t.shape[dim] > 1 for dim in own]
        wanted = [Shard(dim) if s else Replicate() for dim, s in zip(own, split, strict=True)]
        grads = [
            Shard(dim) if s else Replicate() if dim is None else Partial() for dim, s in zip(own, split, strict=True)
        ]
        return t.redistribute(placements=wanted).to_local(grad_placements=grads)

    part, offset = compute_local_shape_and_global_offset(batch, mesh, placements)
    numbers = FROM_ZERO
    if sharded:
        (dim,) = sharded
        row = math.prod(batch[dim + 1 :])
        numbers = (offset[dim] * row, max(1, part[dim] * row), (batch[dim] - part[dim]) * row)
    # The processes' generators may differ: the first one's key is everybody's.
    key = distribute_tensor(key, mesh, [Replicate()] * mesh.ndim).to_local()
    z = draw_rows(local(loc), local(kappa), key, torch.Size(part), numbers)
    shape = (*sample_shape, *batch, loc.shape[-1])
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    placements = [Replicate() if dim is None else Shard(len(sample_shape) + dim) for dim in dims]
    return DTensor.from_local(z, mesh, placements, run_check=False, shape=torch.Size(shape), stride=tuple(strides))
