"""Bring per-rank values together: for good, or for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from torchcreator._access.assign import showing_readings
from torchcreator._access.collectives import World, aggregate
from torchcreator._errors import VariableValueError
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator.distributed._buffers import aggregated_buffers
from torchcreator.distributed._policy import SUM, Managed, survey


def synchronize(model: nn.Module, *, process_group: dist.ProcessGroup | None = None) -> None:
    """Make the per-rank values that are read together equal on all ranks.

    Those are the ``ON_READ`` variables, the running statistics of normalisation modules (MEAN;
    their counters are the first rank's) and buffers with a policy of their own (see
    `aggregate_buffer`). What `read_value` returns does not change: each rank's part of a SUM
    becomes an equal share of it. Every rank must call it.

    DDP's ``broadcast_buffers=True``, its default, overwrites statistics with the first rank's at
    the next forward; pass ``broadcast_buffers=False`` to keep them apart between two calls.

    Args:
        model: Any module.
        process_group: The ranks concerned, where a variable names no group of its own.

    Raises:
        VariableValueError: An ``ON_READ`` variable has no aggregation. Nothing is changed.
        DistributedError: A rank did not take part. Nothing is changed.

    Example:
        >>> import torch, torchcreator as tc
        >>> tc.distributed.synchronize(torch.nn.BatchNorm1d(3))  # one rank has nothing to do
    """
    held = list(_held(model, World.of(process_group)))
    with torch.no_grad():
        for value, reading in zip(held, _readings(held), strict=True):
            summed = value.aggregation is SUM
            value.tensor.copy_(share_of(reading, value.world) if summed else reading)


@contextlib.contextmanager
def synchronized(
    model: nn.Module, *, process_group: dist.ProcessGroup | None = None
) -> Iterator[None]:
    """Let per-rank values show what they amount to on all ranks, for the length of a block.

    Inside, each value that `synchronize` concerns holds its aggregate, a SUM the whole sum, and
    `read_value` returns that without communicating. Evaluate, print or save there. Afterwards each
    rank has its own values back; what was written to them inside is lost. Every rank must enter.

    Args:
        model: Any module.
        process_group: The ranks concerned, where a variable names no group of its own.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(2, 3)
        >>> model.seen = tc.variable(5, synchronization="on_read", aggregation="sum")
        >>> with tc.distributed.synchronized(model):
        ...     model.seen.item()
        5
    """
    held = list(_held(model, World.of(process_group)))
    readings = _readings(held)
    own = [value.tensor.detach().clone() for value in held]
    shown = showing_readings.set(showing_readings.get().union(id(v.tensor) for v in held))
    try:
        _overwrite(held, readings)
        yield
    finally:
        showing_readings.reset(shown)
        _overwrite(held, own)


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """A per-rank value, and how it is read on all ranks."""

    name: str
    tensor: torch.Tensor
    aggregation: VariableAggregation
    world: World


def is_read_together(m: Managed) -> bool:
    """Return whether a variable is ON_READ, with an aggregation that says how it is read."""
    return (
        m.spec is not None
        and m.spec.synchronization is VariableSynchronization.ON_READ
        and m.spec.aggregation is not VariableAggregation.NONE
    )


def share_of(total: torch.Tensor, world: World) -> torch.Tensor:
    """Return this rank's part of a sum: the parts of all ranks add up to it again."""
    if total.is_floating_point() or total.is_complex():
        return total / world.size
    # Integers that do not divide: the first ranks hold one more each.
    return total // world.size + (total % world.size > world.rank).to(total.dtype)


def _held(model: nn.Module, world: World) -> Iterator[_Held]:
    for m in survey(model):
        if m.spec is None or m.spec.synchronization is not VariableSynchronization.ON_READ:
            continue
        own = m.world(world)
        if own.size > 1 and not is_read_together(m):
            raise VariableValueError(
                f"Variable {m.name!r} is ON_READ and its aggregation is NONE.",
                "Nothing says how to make one value of those of all ranks.",
                "Declare aggregation='sum', 'mean' or 'only_first_replica', or "
                "synchronization='none' for a value that stays per rank.",
            )
        yield _Held(m.name, m.parameter, m.spec.aggregation, own)
    for name, buffer, policy in aggregated_buffers(model):
        yield _Held(name, buffer, policy, world)


@torch.no_grad()
def _readings(held: list[_Held]) -> list[torch.Tensor]:
    """Return what all ranks read, in one collective per kind of value."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    for i, value in enumerate(held):
        kind = (value.world, value.aggregation, value.tensor.device, value.tensor.dtype)
        kinds.setdefault(kind, []).append(i)
    readings = [value.tensor for value in held]
    for members in kinds.values():
        first = held[members[0]]
        if first.world.size == 1:
            continue
        flat = torch.cat([held[i].tensor.detach().reshape(-1) for i in members])
        names = ", ".join(held[i].name for i in members)
        together = aggregate(flat, first.aggregation, first.world, names)
        pieces = together.split([held[i].tensor.numel() for i in members])
        for i, piece in zip(members, pieces, strict=True):
            readings[i] = piece.view(held[i].tensor.shape)
    return readings


@torch.no_grad()
def _overwrite(held: list[_Held], values: list[torch.Tensor]) -> None:
    for value, new in zip(held, values, strict=True):
        value.tensor.copy_(new)
