"""Checkpoints of models with per-rank values, to be loaded by any number of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from torchcreator._access.collectives import World, aggregate
from torchcreator._errors import VariableValueError
from torchcreator.distributed._policy import SUM, Managed, survey
from torchcreator.distributed._reads import is_read_together, share_of


def state_dict(
    model: nn.Module, *, process_group: dist.ProcessGroup | None = None
) -> dict[str, Any]:
    """Return a model's ``state_dict()`` as one checkpoint of all ranks.

    An ``ON_READ`` variable is in it with what all ranks read, its sum, say; any number of ranks
    can load that. A variable with a value per rank and nothing to read together has a key per
    rank, ``name@0``, ``name@1``, …, of which this is one rank's: save it with
    ``torch.distributed.checkpoint``, which gathers the keys of all ranks, or a file per rank.
    All else is as ``model.state_dict()`` returns it. Every rank must call it.

    Args:
        model: Any module, wrapped or not.
        process_group: The ranks concerned, where a variable names no group of its own.

    Raises:
        DistributedError: A rank did not take part.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(1, 1)
        >>> model.seen = tc.variable(5, synchronization="on_read", aggregation="sum")
        >>> model.expert = tc.variable([1.0], synchronization="none")
        >>> list(tc.distributed.state_dict(model))
        ['weight', 'bias', 'seen', 'expert@0']
    """
    world = World.of(process_group)
    renamed: dict[str, tuple[str, torch.Tensor]] = {}
    for m in survey(model):
        if not m.per_rank:
            continue
        own = m.world(world)
        if is_read_together(m):
            assert m.spec is not None
            reading = aggregate(m.parameter, m.spec.aggregation, own, m.name)
            renamed.update((key, (key, reading)) for key in m.keys)
        else:
            renamed.update((k, (key_of(k, own.rank), m.parameter.detach())) for k in m.keys)
    state = model.state_dict()
    return dict(renamed.get(name, (name, value)) for name, value in state.items())


def load_state_dict(
    model: nn.Module,
    state: Mapping[str, Any],
    *,
    strict: bool = True,
    process_group: dist.ProcessGroup | None = None,
) -> Any:
    """Load what `state_dict` returned, on this or another number of ranks.

    Each rank takes an equal share of an ``ON_READ`` variable's sum, and the value itself where
    the aggregation is another. Of the per-rank keys it takes its own. It does not communicate.

    Args:
        model: The module to load into.
        state: What `state_dict` returned, on any number of ranks.
        strict: Whether missing and unexpected keys are errors, as in ``Module.load_state_dict``.
            Without, a rank that the checkpoint knows nothing of keeps its per-rank values.
        process_group: The ranks concerned, where a variable names no group of its own.

    Returns:
        What ``Module.load_state_dict`` returns.

    Raises:
        VariableValueError: The checkpoint has no value of a per-rank variable for this rank; or
            one of checkpoint and model is of a wrapped module, and the other is not.

    Example:
        >>> import torch, torchcreator as tc
        >>> model = torch.nn.Linear(1, 1)
        >>> model.seen = tc.variable(5, synchronization="on_read", aggregation="sum")
        >>> tc.distributed.load_state_dict(model, tc.distributed.state_dict(model))
        <All keys matched successfully>
    """
    world = World.of(process_group)
    mine = dict(state)
    _check_wrapping(model, mine)
    for m in survey(model):
        if m.per_rank:
            _take_own(m, mine, m.world(world), strict)
    return model.load_state_dict(mine, strict=strict)


_WRAPPED = "module."
"""What DistributedDataParallel puts before the name of everything."""


def _check_wrapping(model: nn.Module, state: dict[str, Any]) -> None:
    """Refuse a checkpoint whose names differ from the model's by nothing but a wrapper's prefix."""
    names, saved = set(model.state_dict()), {key.partition("@")[0] for key in state}
    if not saved or names & saved:
        return
    if names.issuperset(_WRAPPED + key for key in saved):
        raise VariableValueError(
            f"The names in the checkpoint lack the model's {_WRAPPED!r}: {min(saved)!r}, say.",
            "It was saved from a model that is wrapped here, in DistributedDataParallel say.",
            "Load it into what is wrapped: load_state_dict(model.module, state).",
        )
    if saved.issuperset(_WRAPPED + name for name in names):
        raise VariableValueError(
            f"The names in the checkpoint begin with {_WRAPPED!r}, and the model's do not: "
            f"{min(saved)!r}, say.",
            "It was saved from a wrapped model, and this one is not wrapped.",
            f"Take it off: {{key.removeprefix({_WRAPPED!r}): v for key, v in state.items()}}.",
        )


def _take_own(m: Managed, state: dict[str, Any], world: World, strict: bool) -> None:
    """Turn what a checkpoint says of one per-rank variable into this rank's value."""
    for name in m.keys:
        if is_read_together(m):
            assert m.spec is not None
            if name in state and m.spec.aggregation is SUM:
                state[name] = share_of(state[name], world)
            continue
        ranks = [key_of(name, rank) for rank in ranks_saved(name, state)]
        own = key_of(name, world.rank)
        if own in ranks:
            state[name] = state[own]
        elif strict and name not in state:
            raise VariableValueError(
                f"The checkpoint has no value of variable {name!r} for rank {world.rank}: "
                + (f"it has {', '.join(ranks)}." if ranks else "it has none at all."),
                "It is a value per rank, and the checkpoint was saved by other ranks.",
                "Load it on as many ranks as saved it, or with strict=False to keep what is there.",
            )
        for key in ranks:
            del state[key]


def key_of(name: str, rank: int) -> str:
    """Return the key of a checkpoint under which one rank's own value is."""
    return f"{name}@{rank}"


def ranks_saved(name: str, keys: Iterable[str]) -> list[int]:
    """Return the ranks whose own values of a variable a checkpoint has, the first one first."""
    parts = [key.rpartition("@") for key in keys]
    return sorted(int(rank) for prefix, _, rank in parts if prefix == name and rank.isdigit())
