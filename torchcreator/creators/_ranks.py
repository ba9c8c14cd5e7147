"""Creators for several ranks: a shard on each, or the same value on all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parameter import is_lazy
from typing_extensions import Unpack

from torchcreator._access.collectives import World
from torchcreator._build.context import building
from torchcreator._errors import DistributedError, VariableTypeError, VariableValueError, shown
from torchcreator._spec.enums import VariableSynchronization
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator._torch.dtensor import is_sharded, own_part
from torchcreator.creators._choice import Choice, ready
from torchcreator.creators._made import is_valued, replaced, replacement_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement


def sharded(mesh: DeviceMesh, placements: Sequence[Placement], **chosen: Unpack[Choice]) -> Creator:
    """Make every variable a `DTensor` parameter, of which each rank keeps its shard.

    A whole parameter is made at a time, on every rank, and must be equal there: `build` on all
    ranks with the same ``seed``, or from the same state of the generator. Nothing is communicated.
    A stock module in a plain scope has no value yet that could be split, and is refused.

    Args:
        mesh: The ranks.
        placements: How each dimension of the mesh splits a parameter, as for `distribute_tensor`.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableValueError: A stock module in a plain scope will initialise the parameter itself;
            or a parameter lacks the dimension that is to be split.

    Example:
        >>> import torch
        >>> import torch.distributed as dist
        >>> from torch.distributed.device_mesh import init_device_mesh
        >>> from torch.distributed.tensor import Shard
        >>> import torchcreator as tc
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> mesh = init_device_mesh("cpu", (1,))
        >>> with tc.creator_scope(tc.creators.sharded(mesh, [Shard(0)])):
        ...     table = tc.variable(torch.zeros(4, 2))
        >>> table.placements
        (Shard(dim=0),)
        >>> dist.destroy_process_group()
    """
    try:
        placements = tuple(placements)
    except Exception as error:  # iterating over somebody's object may raise anything
        raise _no_placements(placements) from error
    if not all(hasattr(placement, "is_shard") for placement in placements):
        raise _no_placements(placements)

    @ready("sharded", shown(placements), choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        made = next_creator(**kwargs)
        if is_lazy(made) or is_sharded(made):
            return made
        if (before := replacement_of(made)) is not None:
            return before
        _check_valued(made, kwargs, "sharded")
        _check_dimensions(made, kwargs, placements)
        shard = own_part(made.detach(), mesh, placements)
        kept = replaced(made, shard)
        this = building.get()
        if this is not None and not this.finished:
            # The build holds on to its own parameter until all are made: keep its shape only.
            made.data = made.detach().new_zeros(()).expand(made.shape)
        return kept

    return creator


def _no_placements(placements: object) -> VariableTypeError:
    return VariableTypeError(
        f"sharded got the placements {shown(placements)}.",
        "They say how each dimension of the mesh splits a parameter.",
        "Pass one for each, sharded(mesh, [Shard(0)]), say.",
    )


def mirrored(*, process_group: ProcessGroup | None = None, **chosen: Unpack[Choice]) -> Creator:
    """Make every variable equal on all ranks: the first rank's value is sent to the others.

    This communicates while variables are made, so all ranks have to make the same ones in the
    same order; a rank that makes another one is named in an error on all. `data_parallel` and
    `aggregate_gradients` do the same once for a whole model, which is faster.

    Args:
        process_group: The ranks; None means the default group. Alone, a rank keeps its value.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        DistributedError: The ranks are making different variables.
        VariableValueError: A stock module in a plain scope will initialise the parameter itself.

    Example:
        >>> import torchcreator as tc
        >>> with tc.creator_scope(tc.creators.mirrored()):
        ...     gain = tc.variable([1.0, 2.0])
        >>> tc.spec_of(gain).synchronization
        <VariableSynchronization.ON_WRITE: 'on_write'>
    """

    @ready("mirrored", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        kwargs["synchronization"] = VariableSynchronization.ON_WRITE
        if process_group is not None:
            kwargs["process_group"] = process_group
        made = next_creator(**kwargs)
        world = World.of(process_group)
        if world.size > 1 and not is_lazy(made) and not made.is_meta and not is_sharded(made):
            _check_valued(made, kwargs, "mirrored")
            _check_same(made, kwargs, world)
            value = made.detach().to(world.device).contiguous()
            dist.broadcast(value, world.first, world.group)
            made.detach().copy_(value)
        return made

    return creator


def _check_same(made: nn.Parameter, kwargs: VariableKwargs, world: World) -> None:
    """Raise on all ranks unless all are making the same variable: they would mix up values."""
    row = f"{kwargs.get('name') or 'Variable'} {tuple(made.shape)} {made.dtype}"
    digest = hashlib.blake2b(row.encode(), digest_size=8).digest()
    mine = torch.frombuffer(bytearray(digest), dtype=torch.int64).to(world.device)
    digests = [torch.empty_like(mine) for _ in range(world.size)]
    dist.all_gather(digests, mine, world.group)
    if all(torch.equal(digest, mine) for digest in digests):
        return
    rows: list[str | None] = [None] * world.size
    dist.all_gather_object(rows, row, world.group)
    listed = "\n".join(f"  rank {rank}: {theirs}" for rank, theirs in enumerate(rows))
    raise DistributedError(
        f"The ranks are making different variables inside mirrored():\n{listed}",
        "Each value is sent from the first rank to the others as it is made.",
        "Make the same variables in the same order on all ranks, or use data_parallel().",
    )


def _check_dimensions(
    made: nn.Parameter, kwargs: VariableKwargs, placements: Sequence[Placement]
) -> None:
    for placement in placements:
        dim = getattr(placement, "dim", None)  # of a Shard
        if dim is not None and not -made.ndim <= dim < made.ndim:
            raise VariableValueError(
                f"sharded() was to split {kwargs.get('name') or 'Variable'!r}, of shape "
                f"{tuple(made.shape)}, by {placement}.",
                "It does not have that dimension.",
                "Choose what is split: sharded(..., when=lambda shape, **_: len(shape) > 1), say.",
            )


def _check_valued(made: nn.Parameter, kwargs: VariableKwargs, creator: str) -> None:
    if is_valued(made):
        return
    owner = type(kwargs.get("module")).__name__
    raise VariableValueError(
        f"{creator}() met {owner}.{kwargs.get('name')} in a plain scope.",
        "The module initialises it later, so there is no value yet.",
        f"Construct it with build({owner}, ...), or give it a value: initialize(...).",
    )
