"""`materialize`: give a deferred model its values, each rank its own shards."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TypeVar

import torch
from torch import nn

from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.modules import WRAPPINGS
from torchcreator._torch.tensors import is_plain_meta
from torchcreator._build.progress import bar
from torchcreator._errors import BuildError
from torchcreator._build.fill import fill
from torchcreator._chain.checks import checked_device
from torchcreator._recorder.live_tensors import Objects, named_tensors, replace
from torchcreator._recorder.recording import DEFERRED, Recording
from torchcreator._recorder.replay import on_meta
from torchcreator._chain.open_scopes import current
from torchcreator._spec.table import checked_model
from torchcreator._recorder.tape import Ref
from torchcreator._spec.types import Device

Model = TypeVar("Model", bound=nn.Module)


def materialize(model: Model, *, device: Device | None = None) -> Model:
    """Give a deferred model its values, in place.

    They are what `build` would have given it. A sharded model (``fully_shard``,
    ``distribute_module``, ``parallelize_module``) gets this rank's shards, equal to those of the
    whole model at every world size; no rank holds more than its shards and one full parameter,
    and ranks do not communicate.

    The creators of the scopes that are open now are called, as in `build`, unless the model is
    sharded. The default generator is left as the plain constructor would have left it, unless it
    was used since `defer`.

    Args:
        model: What `defer` returned, or a deep copy of it.
        device: Where to put everything; by default each tensor goes where its constructor
            asked for it.

    Returns:
        The model.

    Raises:
        BuildError: The model was not deferred, is materialised already, or is part of a deferred
            one or a wrapper around one; or something cannot be replayed.

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
    if sharded and current.get() is not None:
        raise _sharded_in_scope(sharded[0][0])
    for name, tensor in tensors:
        _return_to_tape(recording, name, tensor)
    _fill_plain(model, recording, loose=not sharded)
    if shards is not None:
        _fill_shards(model, recording, sharded, place, shards)
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
    ref = recording.refs.get(canonical(name))
    if ref is None:
        return  # the constructor left it on meta
    _check_shape(name, tensor.shape, ref)
    if tensor.dtype == ref.dtype:
        replace(tensor, on_meta(recording.tape, ref))
    else:  # model.half(), say
        value = recording.value(ref)
        replace(tensor, value.to(tensor.dtype))


def _fill_plain(model: nn.Module, recording: Recording, *, loose: bool) -> None:
    known: Objects = {}
    with no_function_modes():
        for tensor in {id(tensor): tensor for _, tensor in named_tensors(model)}.values():
            storage = recording.storage_of(tensor)
            if storage is not None:
                known.setdefault(storage, []).append((tensor, recording.tape.ref(tensor)))
    original = recording.original is not None and recording.original() is model
    if original and loose:
        known = recording.all_objects(known, [model])
    fill(model, recording, known)


def _fill_shards(
    model: nn.Module,
    recording: Recording,
    sharded: list[tuple[str, torch.Tensor]],
    device: torch.device | None,
    shards: ModuleType,
) -> None:
    named = {id(tensor): (name, tensor) for name, tensor in reversed(sharded)}  # a tie, once
    with bar("making the shards", len(named)) as advance:
        for name, tensor in reversed(named.values()):
            ref = recording.refs.get(canonical(name))
            if ref is None:
                raise _unknown(name)
            _check_shape(name, tensor.shape, ref)
            full = recording.value(ref)
            shards.fill_shard(tensor, full.to(tensor.dtype), device or full.device)
            del full
            advance()
    shards.reset_fully_sharded(model)


def canonical(name: str) -> str:
    """Return a full name without the parts that torch's own wrappers add to it."""
    for wrapping in WRAPPINGS:
        name = name.replace(wrapping, "")
    return name


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


def _sharded_in_scope(name: str) -> BuildError:
    return BuildError(
        f"materialize() is called inside a creator_scope, and {name!r} is sharded already.",
        "Creators decide how a whole parameter is made; this rank holds a part of one.",
        "Materialize outside the scope; or use build() inside it, with a creator that shards.",
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
