"""`materialize`: give a deferred model its values, each rank its own parts."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from torchcreator._build.edited import Waiting, as_before, returned, settled, waiting
from torchcreator._build.fill import fill
from torchcreator._build.sharded_parameter import Shard, Shards
from torchcreator._chain.checks import checked_device
from torchcreator._spec.table import checked_model
from torchcreator._spec.types import Device
from torchcreator._torch.modules import without_wrappings

Model = TypeVar("Model", bound=nn.Module)


def materialize(model: Model, *, device: Device | None = None) -> Model:
    """Give a deferred model its values, in place.

    They are what `build` would have given it. A sharded model (``fully_shard``,
    ``distribute_module``, ``parallelize_module``) gets this rank's shards, equal to those of the
    whole model at every world size. A rank draws and computes its own part alone, but for what
    mixes elements (``orthogonal_``, ``randperm``), which it makes whole, one parameter at a time.
    Ranks do not communicate.

    Values follow the tensors: since `defer` parts of the model may have been deleted, moved,
    renamed, shared, deep-copied or converted to another dtype. What was written to, exchanged or
    added on meta is an error that names it. Where it raises, the model is left deferred, as it was.

    The creators of the scopes that are open now are called, as in `build`: for a sharded parameter
    with its full shape, and an ``initial_value`` that can be called, for the whole, and sliced.
    What can be sliced, an array, a file, is asked for this rank's part; of what another callable
    returns, the part is cut out. The default generator is left as the plain constructor would have
    left it, unless it was used since `defer`.

    Args:
        model: What `defer` returned, a part of it, a deep copy, or a module around one of these.
        device: Where to put everything; by default each tensor goes where its constructor
            asked for it.

    Returns:
        The model.

    Raises:
        BuildError: The model was not deferred, or is materialised already; something was done to
            it since that cannot be followed; or something cannot be replayed.
        CreatorResultError: A creator gave a sharded parameter another dtype or shape, or returned
            one of its own.

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
    objects, shards = returned(found), _shards(found, place)
    with as_before(model, found, shards):
        fill(model, found.recording, objects, shards)
    if place is not None:
        model.to(place)
    settled(model, found)
    found.recording.draws.finish()
    return model


def _shards(found: Waiting, device: torch.device | None) -> Shards | None:
    """Return the sharded tensors, each with what it is a part of."""
    if not found.sharded:
        return None
    from torchcreator._build import shards  # it takes half a second to import

    once: dict[int, Shard] = {}
    for held in found.sharded:
        name = without_wrappings(held.name)
        once.setdefault(id(held.tensor), Shard(name, held.tensor, held.ref))  # a tie, once
    return Shards(found.recording, once.values(), device, shards)
