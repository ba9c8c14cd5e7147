"""`materialize`: give a deferred model its values, each rank its own shards."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from torchcreator._build.edited import Waiting, as_before, returned, settled, waiting
from torchcreator._build.fill import fill
from torchcreator._build.progress import bar
from torchcreator._chain.checks import checked_device
from torchcreator._chain.open_scopes import current
from torchcreator._errors import BuildError
from torchcreator._spec.table import checked_model
from torchcreator._spec.types import Device

Model = TypeVar("Model", bound=nn.Module)


def materialize(model: Model, *, device: Device | None = None) -> Model:
    """Give a deferred model its values, in place.

    They are what `build` would have given it. A sharded model (``fully_shard``,
    ``distribute_module``, ``parallelize_module``) gets this rank's shards, equal to those of the
    whole model at every world size; no rank holds more than its shards and one full parameter,
    and ranks do not communicate.

    Values follow the tensors: since `defer` parts of the model may have been deleted, moved, renamed,
    shared, deep-copied or converted to another dtype. What was written to, exchanged or added on
    meta is an error that names it. Where it raises, the model is left deferred, as it was.

    The creators of the scopes that are open now are called, as in `build`, unless the model is
    sharded. The default generator is left as the plain constructor would have left it, unless it
    was used since `defer`.

    Args:
        model: What `defer` returned, a part of it, a deep copy, or a module around one of these.
        device: Where to put everything; by default each tensor goes where its constructor
            asked for it.

    Returns:
        The model.

    Raises:
        BuildError: The model was not deferred, or is materialised already; something was done to
            it since that cannot be followed; or something cannot be replayed.

    Example:
        >>> import copy
        >>> import torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> model = tc.defer(nn.Linear, 4, 2, seed=0)
        >>> other = tc.materialize(copy.deepcopy(model))
        >>> torch.equal(tc.materialize(model).weight, other.weight)
        True
    """
    place = checked_device(device, "materialize()")
    found = waiting(checked_model(model, "materialize()"))
    if found.sharded and current.get() is not None:
        raise _sharded_in_scope(found.sharded[0].name)
    with as_before(model, found):
        fill(model, found.recording, returned(found))
        if found.sharded:
            _fill_shards(model, found, place)
    if place is not None:
        model.to(place)
    settled(model, found)
    found.recording.draws.finish()
    return model


def _fill_shards(model: nn.Module, found: Waiting, device: torch.device | None) -> None:
    from torchcreator._build import shards  # it takes half a second to import

    held_once = {id(held.tensor): held for held in reversed(found.sharded)}  # a tie, once
    with bar("making the shards", len(held_once)) as advance:
        for held in reversed(held_once.values()):
            full = found.recording.value(held.ref)
            shards.fill_shard(held.tensor, full.to(held.tensor.dtype), device or full.device)
            del full
            advance()
    shards.reset_fully_sharded(model)


def _sharded_in_scope(name: str) -> BuildError:
    return BuildError(
        f"materialize() is called inside a creator_scope, and {name!r} is sharded already.",
        "Creators decide how a whole parameter is made; this rank holds a part of one.",
        "Materialize outside the scope; or use build() inside it, with a creator that shards.",
    )
