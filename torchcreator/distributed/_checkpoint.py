"""A model of many ranks on disk, to be loaded by any number of ranks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcreator._access.collectives import World, aggregate
from torchcreator._errors import VariableValueError, shown
from torchcreator._torch.modules import saved_as, uncompiled
from torchcreator.distributed import _options
from torchcreator.distributed._buffers import declared_policies
from torchcreator.distributed._policy import SUM, survey
from torchcreator.distributed._reads import is_read_together, share_of
from torchcreator.distributed._state import key_of, ranks_saved, state_dict

NewRanks = Literal["keep", "repeat"]


def save(
    model: nn.Module, folder: str | Path, *, process_group: dist.ProcessGroup | None = None
) -> None:
    """Save a model, with the values of all ranks, by ``torch.distributed.checkpoint``.

    What is one value on all ranks is saved once, shards by those who have them, and a value per
    rank of every rank. An ``ON_READ`` variable and a buffer with a policy (see `aggregate_buffer`)
    are saved as what all ranks read. Every rank must call it.

    Args:
        model: Any module; of one in DDP or compiled, what is inside.
        folder: Where to; all ranks name the same one.
        process_group: The ranks concerned; None means the default group.

    Example:
        >>> import tempfile, torch, torch.distributed as dist, torchcreator as tc
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.Linear(1, 1)
        >>> model.seen = tc.variable(5, synchronization="on_read", aggregation="sum")
        >>> folder = tempfile.mkdtemp()
        >>> tc.distributed.save(model, folder)
        >>> _ = tc.assign(model.seen, 0)
        >>> tc.distributed.load(model, folder)
        >>> model.seen.item()
        5
        >>> dist.destroy_process_group()
    """
    from torch.distributed.checkpoint.state_dict_saver import save as write  # a while to import

    model = _bare("save()", model)
    world = World.of(process_group)
    state = state_dict(model, process_group=process_group)
    for name, buffer, policy in declared_policies(model):
        key = saved_as(name)
        if key in state:
            state[key] = aggregate(buffer, policy, world, name)
    write(state, checkpoint_id=str(folder), process_group=process_group)


@torch.no_grad()
def load(
    model: nn.Module,
    folder: str | Path,
    *,
    new_ranks: NewRanks = "keep",
    process_group: dist.ProcessGroup | None = None,
) -> None:
    """Load what `save` has saved, on this or another number of ranks, in place.

    Each rank takes its own values, shards as they are cut now, and an equal share of each sum that
    is read together. Every rank must call it.

    Args:
        model: A module of the same variables; of one in DDP or compiled, what is inside.
        folder: Where to load from.
        new_ranks: What a rank that was not there when it was saved begins with: ``"keep"``, its
            values per rank as the constructor made them; ``"repeat"``, those of the rank that is
            its number modulo the number of ranks then.
        process_group: The ranks concerned; None means the default group.

    Raises:
        VariableValueError: The checkpoint has no value at all of a variable that is per rank, or
            ``new_ranks`` is something else.

    Example:
        >>> import tempfile, torch, torch.distributed as dist, torchcreator as tc
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model, folder = torch.nn.Linear(1, 1), tempfile.mkdtemp()
        >>> model.expert = tc.variable([1.0], synchronization="none")
        >>> tc.distributed.save(model, folder)
        >>> _ = tc.assign(model.expert, [2.0])
        >>> tc.distributed.load(model, folder)
        >>> model.expert.item()
        1.0
        >>> dist.destroy_process_group()
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # a while to import
    from torch.distributed.checkpoint.state_dict_loader import load as read

    if new_ranks not in ("keep", "repeat"):
        raise VariableValueError(
            f"load() got new_ranks={shown(new_ranks)}.",
            "It says what a rank begins with that was not there when the checkpoint was saved.",
            "Pass 'keep' or 'repeat'.",
        )
    model = _bare("load()", model)
    world = World.of(process_group)
    saved = FileSystemReader(str(folder)).read_metadata().state_dict_metadata
    state = dict(model.state_dict())
    summed: list[tuple[torch.Tensor, World]] = []
    for m in survey(model):
        if not m.per_rank:
            continue
        own = m.world(world)
        if is_read_together(m):
            assert m.spec is not None
            summed += [(m.parameter, own)] if m.spec.aggregation is SUM else []
            continue
        for name in m.keys:
            value = state.pop(name)
            source = _source(name, own.rank, saved, new_ranks)
            if source is not None:
                state[source] = value
    declared = declared_policies(model)
    buffers = [(b, world) for name, b, p in declared if p is SUM and saved_as(name) in state]
    read(state, checkpoint_id=str(folder), process_group=process_group)
    for tensor, own in (*summed, *buffers):
        tensor.copy_(share_of(tensor, own))


def _bare(function: str, model: nn.Module) -> nn.Module:
    """Return a model without what is around it, whose names would be other ones."""
    _options.refuse_other_than_module(function, model)
    model = uncompiled(model)
    return uncompiled(model.module) if isinstance(model, DistributedDataParallel) else model


def _source(name: str, rank: int, saved: Collection[Any], new_ranks: NewRanks) -> str | None:
    """Return the key of a checkpoint under which a rank finds its own value, if any."""
    own = key_of(name, rank)
    if own in saved:
        return own
    ranks = ranks_saved(name, saved)
    if not ranks:
        raise VariableValueError(
            f"The checkpoint has no value of variable {name!r}.",
            "It is a value per rank here, and was none, or not there, when it was saved.",
            "Load it into a model of the same variables.",
        )
    return None if new_ranks == "keep" else key_of(name, ranks[rank % len(ranks)])
