"""Policies under FSDP2, on the whole parameters that its backward sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from torchcreator._access.collectives import World
from torchcreator._errors import DistributedError
from torchcreator._spec.enums import VariableSynchronization
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.hosts import sharded_parameters
from torchcreator.distributed._arrivals import ArrivalSet
from torchcreator.distributed._plain import broadcast_all
from torchcreator.distributed._policy import FIRST, SUM, Managed, survey


def per_rank_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that FSDP2 must leave alone, for ``fully_shard(ignored_params=...)``.

    Those are the ones with a value per rank, of which a shard would be a part of nothing, and the
    ones with a process group of their own, over which FSDP2 cannot reduce. Pass them to every
    ``fully_shard`` call on the model and its parts.

    Args:
        model: A module that is not sharded yet.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(2, 3)
        >>> model.seen = tc.variable(0, synchronization="on_read", aggregation="sum")
        >>> [p is model.seen for p in tc.distributed.per_rank_parameters(model)]
        [True]
    """
    return {m.parameter for m in survey(model) if m.per_rank or m.has_own_group}


def fsdp_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that ``fully_shard`` was applied to, outermost first."""
    # Duck-typed, because importing FSDP2 takes a while and most models have none.
    return [module for module in model.modules() if hasattr(module, "set_requires_gradient_sync")]


def survey_sharded(modules: list[nn.Module], model: nn.Module) -> list[Managed]:
    """Return every parameter of the model, the sharded ones as the optimizer holds them."""
    for module in modules:
        module.reshard()  # type: ignore[operator]  # a root stays whole after a forward
    return survey(model)


def refuse_unshardable(managed: list[Managed]) -> None:
    """Raise for a variable that FSDP2 has sharded and should not have."""
    for m in managed:
        if not is_sharded(m.parameter) or not (m.per_rank or m.has_own_group):
            continue
        assert m.spec is not None
        own_group = not m.per_rank
        synchronization = VariableSynchronization(m.spec.synchronization).name
        raise DistributedError(
            f"Variable {m.name!r} is sharded, and "
            + ("has a process group of its own." if own_group else f"is {synchronization}."),
            "FSDP2 reduces over its own mesh."
            if own_group
            else "A value per rank cannot be one value of which each rank holds a part.",
            "Pass ignored_params=torchcreator.distributed.per_rank_parameters(model) to every "
            "fully_shard() call.",
        )


@torch.no_grad()
def share_replicas(managed: list[Managed]) -> None:
    """Overwrite each shard that several ranks hold with the first replica's.

    FSDP2 takes every rank's own values when it shards. Over a mesh with a dimension of replicas
    (hybrid sharding) these differ where the ranks were not seeded alike, and stay different.
    """
    shards: dict[World, list[torch.Tensor]] = {}
    for m in managed:
        if not is_sharded(m.parameter) or m.parameter.is_meta:
            continue
        for dim, placement in enumerate(m.parameter.placements):
            shard = m.parameter.to_local()
            if placement.is_replicate() and shard.numel():
                world = World.of(m.parameter.device_mesh.get_group(dim))
                shards.setdefault(world, []).append(shard)
    for world, theirs in shards.items():
        broadcast_all(theirs, world)


def arrivals_on_whole(modules: list[nn.Module], managed: list[Managed]) -> list[ArrivalSet]:
    """Put the factors on the whole parameters, which each module gathers once for that.

    FSDP2 makes a whole parameter at its first all-gather and keeps the object and its node. A
    hook on the sharded one would act after the reduction, and be wrong where gradients accumulate.
    """
    declared = {
        id(m.parameter): m
        for m in managed
        if m.parameter.requires_grad and m.aggregation in (SUM, FIRST)
    }
    if not declared:
        return []
    sets = []
    for module in modules:
        module.unshard()  # type: ignore[operator]
        for held in sharded_parameters(module):
            m = declared.get(id(held.sharded))
            if m is not None and held.whole is not None:
                place = World(None, held.rank, held.size)
                sets.append(ArrivalSet([replace(m, parameter=held.whole)], place))
        module.reshard()  # type: ignore[operator]
    return sets


@contextlib.contextmanager
def no_sync(modules: list[nn.Module]) -> Iterator[None]:
    """Let backwards accumulate whole gradients on this rank."""
    for module in modules:
        module.set_requires_gradient_sync(False, recurse=False)  # type: ignore[operator]
    try:
        yield
    finally:
        for module in modules:
            module.set_requires_gradient_sync(True, recurse=False)  # type: ignore[operator]
