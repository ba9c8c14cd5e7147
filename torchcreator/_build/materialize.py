"""`materialize`: give a deferred model its values, each rank its own shards."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TypeVar

import torch
from torch import nn

from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.modules import without_wrappings
from torchcreator._torch.tensors import is_plain_meta
from torchcreator._build.sharded_parameter import Shard, Shards
from torchcreator._errors import BuildError
from torchcreator._build.fill import fill
from torchcreator._chain.checks import checked_device
from torchcreator._recorder.live_tensors import Objects, named_tensors, replace
from torchcreator._recorder.recording import DEFERRED, Recording
from torchcreator._recorder.replay import on_meta
from torchcreator._spec.table import checked_model
from torchcreator._recorder.tape import Ref
from torchcreator._spec.types import Device

Model = TypeVar("Model", bound=nn.Module)


def materialize(model: Model, *, device: Device | None = None) -> Model:
    """Give a deferred model its values, in place.

    They are what `build` would have given it. A sharded model (``fully_shard``,
    ``distribute_module``, ``parallelize_module``) gets this rank's shards, equal to those of the
    whole model at every world size. A rank draws and computes its own part alone, but for what
    mixes elements (``orthogonal_``, ``randperm``), which it makes whole, one parameter at a time.
    Ranks do not communicate.

    The creators of the scopes that are open now are called, as in `build`: for a sharded parameter
    with its full shape, and an ``initial_value`` that can be called, for the whole, and sliced.
    What can be sliced, an array, a file, is asked for this rank's part; of what another callable
    returns, the part is cut out. The default generator is left as the plain constructor would have
    left it, unless it was used since `defer`.

    Args:
        model: What `defer` returned, or a deep copy of it.
        device: Where to put everything; by default each tensor goes where its constructor
            asked for it.

    Returns:
        The model.

    Raises:
        BuildError: The model was not deferred, is materialised already, or is part of a deferred
            one or a wrapper around one; or something cannot be replayed.
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
    recording: Recording | None = checked_model(model, "materialize()").__dict__.get(DEFERRED)
    if recording is None:
        raise _not_deferred(model)
    shards = _loaded_shards()
    tensors = named_tensors(model)
    sharded = [] if shards is None else [(n, t) for n, t in tensors if shards.on_meta(t)]
    for name, tensor in tensors:
        _return_to_tape(recording, name, tensor)
    parts = None if shards is None else _parts(recording, sharded, place, shards)
    _fill(model, recording, parts, loose=not sharded)
    if place is not None:
        model.to(place)
    del model.__dict__[DEFERRED]
    recording.draws.finish()
    return model


def _loaded_shards() -> ModuleType | None:
    """Return the module that knows DTensors, or None if there can be none in this process."""
    if "torch.distributed.tensor" not in sys.modules:
        return None
    from torchcreator._build import shards  # it takes half a second to import

    return shards


def _return_to_tape(recording: Recording, name: str, tensor: torch.Tensor) -> None:
    """Let a copied or converted meta tensor look at the tape's storage again."""
    if not is_plain_meta(tensor) or recording.storage_of(tensor) is not None:
        return
    ref = recording.refs.get(without_wrappings(name))
    if ref is None:
        return  # the constructor left it on meta
    _check_shape(name, tensor.shape, ref)
    if tensor.dtype == ref.dtype:
        replace(tensor, on_meta(recording.tape, ref))
    else:  # model.half(), say
        value = recording.value(ref)
        replace(tensor, value.to(tensor.dtype))


def _fill(model: nn.Module, recording: Recording, shards: Shards | None, *, loose: bool) -> None:
    known: Objects = {}
    with no_function_modes():
        for tensor in {id(tensor): tensor for _, tensor in named_tensors(model)}.values():
            storage = recording.storage_of(tensor)
            if storage is not None:
                known.setdefault(storage, []).append((tensor, recording.tape.ref(tensor)))
    original = recording.original is not None and recording.original() is model
    if original and loose:
        known = recording.all_objects(known, [model])
    fill(model, recording, known, shards)


def _parts(
    recording: Recording,
    sharded: list[tuple[str, torch.Tensor]],
    device: torch.device | None,
    dtensors: ModuleType,
) -> Shards:
    """Return the sharded tensors, each with what it is a part of."""
    found: dict[int, Shard] = {}
    for name, tensor in sharded:
        ref = recording.refs.get(without_wrappings(name))
        if ref is None:
            raise _unknown(name)
        _check_shape(name, tensor.shape, ref)
        found.setdefault(id(tensor), Shard(without_wrappings(name), tensor, ref))  # a tie, once
    return Shards(recording, found.values(), device, dtensors)


def _check_shape(name: str, shape: torch.Size, ref: Ref) -> None:
    if shape != ref.size:
        raise BuildError(
            f"{name!r} has another shape than its constructor gave it.\n"
            f"  expected: {tuple(ref.size)}\n"
            f"  actual:   {tuple(shape)}",
            "It was exchanged since defer(), so its recorded value does not fit.",
            "Call materialize() first, or make that change in the factory.",
        )


def _unknown(name: str) -> BuildError:
    return BuildError(
        f"{name!r} is not among the tensors of the deferred model.",
        "It was renamed or added since defer(), so it has no recorded value.",
        "Keep the names until materialize(), or make that change in the factory.",
    )


def _not_deferred(model: nn.Module) -> BuildError:
    kind = type(model).__name__
    inner = next((n for n, m in model.named_modules() if DEFERRED in m.__dict__), None)
    if inner is not None:
        return BuildError(
            f"This {kind} was not deferred, but its {inner!r} was.",
            "A deferred model's values belong to the names it had when it was deferred.",
            f"Call materialize(model.{inner}).",
        )
    on_meta = next((n for n, p in model.named_parameters() if p.is_meta), None)
    if on_meta is not None:
        return BuildError(
            f"This {kind} was not deferred, although its {on_meta!r} is on the meta device.",
            "It may be part of a deferred model, or was made on meta by other means.",
            "Call materialize() on what defer() returned, or model.to_empty() and initialise it.",
        )
    return BuildError(
        f"This {kind} was not deferred, or is materialised already.",
        "Its parameters have memory, and no recorded values wait for them.",
        "Call materialize() once, on what defer() returned.",
    )
