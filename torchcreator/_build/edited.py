"""What became of the tensors of a deferred model since `defer`: followed, or told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchcreator._build import told
from torchcreator._build.sharded_parameter import Shards
from torchcreator._recorder.afterwards import converted, copied
from torchcreator._recorder.live_tensors import (
    ORIGIN,
    Named,
    Objects,
    named_tensors,
    reached,
    replace,
    tensors_of,
)
from torchcreator._recorder.origins import DEFERRED, Origin, Places, carried
from torchcreator._recorder.recording import Recording
from torchcreator._recorder.replay import on_meta
from torchcreator._recorder.tape import Ref
from torchcreator._spec.table import TABLE, SpecTable
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.dtensor import held_part, is_sharded
from torchcreator._torch.tensors import wraps_others


@dataclass(slots=True, eq=False)
class Held:
    """A tensor of a deferred model that waits for its value.

    Attributes:
        name: Its full name, or that of something that shares its memory.
        tensor: The tensor.
        origin: Where its value comes from.
        ref: What it is there.
        trainable: Whether it requires a gradient.
        attributes: What is noted on it.
        holder: The dictionary that its module holds it in, if one does.
        local: What it is called there.
    """

    name: str
    tensor: torch.Tensor
    origin: Origin
    ref: Ref
    trainable: bool
    attributes: dict[str, Any]
    holder: dict[str, Any] | None = None
    local: str = ""


class Waiting(NamedTuple):
    """What of a deferred model waits for its values.

    Attributes:
        recording: What they are taken from.
        whole: Each tensor that is not sharded, once for each of its names.
        sharded: Each sharded one, likewise.
    """

    recording: Recording
    whole: list[Held]
    sharded: list[Held]

    def once(self) -> list[Held]:
        """Return what is not sharded, each tensor once."""
        return list({id(held.tensor): held for held in reversed(self.whole)}.values())[::-1]

    def put_back(self) -> None:
        """Let every module hold its own tensors again, on meta."""
        with no_function_modes():
            for held in (*self.whole, *self.sharded):
                if held.holder is not None:
                    held.holder[held.local] = held.tensor
            for held in self.once():
                _empty(held, self.recording)


def waiting(model: nn.Module) -> Waiting:
    """Find what waits for its value in a deferred model; nothing is changed.

    Raises:
        BuildError: It was not deferred; or something was done to it that cannot be followed.
    """
    recording = _recording_of(model)
    found = Waiting(recording, [], [])
    with no_function_modes():
        for name, tensor, module in named_tensors(model):
            local = name.rpartition(".")[2]
            origin = _origin(tensor, module, local, recording)
            if origin is not None and origin.recording is not recording:
                raise told.elsewhere(name)
            if origin is None:
                if tensor.is_meta and not is_lazy(tensor):
                    raise told.added(name, tensor)
            elif origin.ref is not None:
                held = _held(name, tensor, origin, origin.ref)
                held.holder, held.local = _holder(module, local), local
                _check(held)
                (found.sharded if is_sharded(tensor) else found.whole).append(held)
            elif origin.copied and wraps_others(tensor) and tensor.is_meta:
                raise told.copied_wrapper(name, tensor)
        _find_others(model, found)
    return found


def _held(name: str, tensor: torch.Tensor, origin: Origin, ref: Ref) -> Held:
    trainable = tensor.is_leaf and tensor.requires_grad
    return Held(name, tensor, origin, ref, trainable, dict(tensor.__dict__))


def _holder(module: nn.Module, local: str) -> dict[str, Any]:
    held = (module._parameters, module._buffers)
    return next((tensors for tensors in held if local in tensors), module.__dict__)


def _recording_of(model: nn.Module) -> Recording:
    for module in model.modules():
        places: Places | None = module.__dict__.get(DEFERRED)
        if places is not None:
            return places.recording
    raise told.not_deferred(model)


def _origin(
    tensor: torch.Tensor, module: nn.Module, local: str, recording: Recording
) -> Origin | None:
    origin = carried(tensor, recording)
    places: Places | None = module.__dict__.get(DEFERRED)
    if origin is None and places is not None:
        return places.origin_of(local)
    return origin


def _check(held: Held) -> None:
    """Raise where something was done to a tensor that cannot be followed."""
    tensor, origin, ref = held.tensor, held.origin, held.ref
    if is_lazy(tensor):
        return
    if tensor.shape != ref.size:
        raise told.other_shape(held.name, tensor, ref.size)
    if is_sharded(tensor):
        local = held_part(tensor)
    elif wraps_others(tensor) or origin.exchanged(tensor):
        raise told.exchanged(held.name)
    else:
        local = tensor
    if not local.is_meta and local.numel():  # a rank outside the mesh holds nothing
        raise told.has_memory(held.name, tensor)
    if origin.written(tensor):
        raise told.written(held.name)


def _find_others(model: nn.Module, found: Waiting) -> None:
    """Add what no module holds by a name: in lists, closures, optimizers."""
    recording, whole, sharded = found
    others, seen = _not_named(model, found)
    for tensor in others:
        origin = None if id(tensor) in seen else carried(tensor, recording)
        # The whole of what was sharded since may still be in a list: nobody needs it there.
        if origin is None or (sharded and isinstance(tensor, nn.Parameter)):
            continue
        if origin.recording is not recording:
            continue
        seen.add(id(tensor))
        if origin.ref is not None and tensor.is_meta:
            held = _held(recording.label(origin.ref.storage), tensor, origin, origin.ref)
            _check(held)
            whole.append(held)


def _not_named(model: nn.Module, found: Waiting) -> tuple[list[torch.Tensor], set[int]]:
    """Return the tensors that the model reaches, and the ids of those that are known by a name."""
    recording, whole, sharded = found
    modules = {id(module) for module in model.modules()}
    original = None if recording.original is None else recording.original()
    copies = any(held.origin.copied for held in whole)
    others: list[torch.Tensor] = recording.handed.kept()
    seen = {id(held.tensor) for held in (*whole, *sharded)}
    if id(original) not in modules:  # a part, or a copy
        mine = {held.ref.storage for held in whole if not held.origin.copied}
        elsewhere = [tensor for _, tensor, _ in _named_elsewhere(model, recording)]
        others += elsewhere
        others = [tensor for tensor in others if recording.storage_of(tensor) in mine]
        seen.update({id(tensor) for tensor in elsewhere} - {id(tensor) for tensor in others})
    elif not sharded:
        known: Objects = {}
        for held in whole:
            if (storage := recording.storage_of(held.tensor)) is not None:
                known.setdefault(storage, []).append((held.tensor, held.ref))
        objects = recording.all_objects(known, [model]).values()
        others = [tensor for alike in objects for tensor, _ in alike]
    if copies or id(original) not in modules:
        others += tensors_of(reached([model], modules=modules))
    return others, seen


def returned(found: Waiting) -> Objects:
    """Let every tensor that is not sharded look at the tape, which makes its value.

    Returns:
        These tensors, by storage.
    """
    recording, tape = found.recording, found.recording.tape
    taken: dict[tuple[int, object], int] = {}  # the storage of each copy of a storage
    objects: Objects = {}
    with no_function_modes():
        once = found.once()
        for held in once:
            if recording.storage_of(held.tensor) is not None:
                taken[held.ref.storage, None] = held.ref.storage
        for held in once:
            if recording.storage_of(held.tensor) is None:
                if is_lazy(held.tensor):  # it has no value, but a dtype
                    place = tape.device(held.ref.storage)
                    replace(held.tensor, torch.empty(0, dtype=held.tensor.dtype, device=place))
                    continue
                _return(held, recording, taken)
            held.ref = tape.ref(held.tensor)
            objects.setdefault(held.ref.storage, []).append((held.tensor, held.ref))
    return objects


def _return(held: Held, recording: Recording, taken: dict[tuple[int, object], int]) -> None:
    """Let a copied or converted tensor look at the tape."""
    tensor, ref = held.tensor, held.ref
    if (tensor.dtype, tensor.stride()) != (ref.dtype, ref.stride):
        converted(recording, ref, tensor)
        return
    copy = ref.storage, held.origin.copied
    if copy not in taken:  # the first of them needs no memory but the recorded one's
        used = ref.storage in taken.values()
        taken[copy] = copied(recording, ref.storage) if used else ref.storage
    replace(tensor, on_meta(recording.tape, ref._replace(storage=taken[copy])))


@contextmanager
def as_before(model: nn.Module, found: Waiting, shards: Shards | None) -> Iterator[None]:
    """Leave a model deferred, as it was, if its values cannot be made."""
    tables: list[SpecTable] = [m.__dict__[TABLE] for m in model.modules() if TABLE in m.__dict__]
    declared = [(table, dict(table.declared)) for table in tables]
    try:
        yield
    except BaseException:
        if shards is not None:
            shards.put_back()
        found.put_back()
        for module in model.modules():
            table = module.__dict__.get(TABLE)
            if table is not None:
                table.declared = {}
        for table, names in declared:
            table.declared = names
        raise


def _empty(held: Held, recording: Recording) -> None:
    """Let a tensor be on meta again, with what was noted on it."""
    tensor = held.tensor
    if not is_lazy(tensor):  # creators may have left it on meta, in another dtype
        replace(tensor, on_meta(recording.tape, held.ref), requires_grad=held.trainable)
    tensor.__dict__.clear()
    tensor.__dict__.update(held.attributes)
    tensor.__dict__[ORIGIN] = held.origin.noted(tensor)


def settled(model: nn.Module, found: Waiting) -> None:
    """Forget where the tensors of a model came from, as they have their values."""
    for module in model.modules():
        module.__dict__.pop(DEFERRED, None)
    filled = {id(held.tensor) for held in found.whole}
    for held in found.whole:
        held.tensor.__dict__.pop(ORIGIN, None)
    for name, tensor, module in _named_elsewhere(model, found.recording):
        places: Places | None = module.__dict__.get(DEFERRED)
        if id(tensor) in filled and places is not None:
            places.origins.pop(name.rpartition(".")[2], None)


def _named_elsewhere(model: nn.Module, recording: Recording) -> list[Named]:
    """Return the tensors of the whole model, where ``model`` is a part of it, or a copy."""
    original = None if recording.original is None else recording.original()
    inside = original is None or any(module is original for module in model.modules())
    return [] if original is None or inside else named_tensors(original)
