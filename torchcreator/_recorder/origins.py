"""Where each tensor of a deferred model comes from, whatever is done to the model.

A tensor carries its origin itself, so that the origin goes where the tensor goes. What torch puts
in a tensor's place without telling anybody (a shard of it, the same in another dtype) has the
origin that the module's table keeps under the local name. A deep copy of a module has both too.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from torchcreator._errors import BuildError
from torchcreator._recorder.live_tensors import ORIGIN, Opaque, named_tensors, reached, tensors_of
from torchcreator._recorder.recording import Recording
from torchcreator._recorder.tape import Ref
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.hooks import install
from torchcreator._torch.tensors import is_plain_meta, looks_at, version, wraps_others

DEFERRED = "_torchcreator_deferred"
"""The key of a deferred module's ``__dict__`` that holds its table."""


class Origin(NamedTuple):
    """Where a tensor comes from, and how it looked when that was noted.

    Attributes:
        recording: What its value is taken from.
        ref: What it is there; None if its constructor left it as it is, on meta.
        version: Its version counter, None where it has none.
        memory: What it looked at, None where that does not count.
        copied: Which copy of the recorded tensor it is, None if it is no copy.
        tied: Whether its constructor gave it several names.
    """

    recording: Recording
    ref: Ref | None
    version: int | None = 0
    memory: torch.UntypedStorage | None = None
    copied: object = None
    tied: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self

    def __reduce__(self) -> Any:
        raise unpicklable()

    def noted(self, tensor: torch.Tensor) -> Origin:
        """Return the same origin for ``tensor`` as it looks now."""
        plain = is_plain_meta(tensor) and not is_lazy(tensor)
        memory = tensor.untyped_storage() if plain else None
        return self._replace(version=version_of(tensor), memory=memory)

    def written(self, tensor: torch.Tensor) -> bool:
        """Return whether ``tensor`` was written to since."""
        return version_of(tensor) != self.version

    def exchanged(self, tensor: torch.Tensor) -> bool:
        """Return whether ``tensor`` looks at other memory, of the same kind, than it did."""
        if self.ref is None or is_lazy(tensor) or not is_plain_meta(tensor):
            return False
        if self.memory is not None and looks_at(tensor, self.memory):  # nearly always
            return False
        alike = (tensor.dtype, tensor.stride()) == (self.ref.dtype, self.ref.stride)
        return alike and self.recording.storage_of(tensor) is None


def version_of(tensor: torch.Tensor) -> int | None:
    """Return a tensor's version counter, None if it has none: a lazy one, an inference tensor."""
    return None if is_lazy(tensor) or tensor.is_inference() else version(tensor)


def unpicklable() -> BuildError:
    """Return the error for a deferred model that is pickled."""
    return BuildError(
        "A deferred model cannot be pickled.",
        "Its values are a record of its constructor's operations, which refers to live memory.",
        "Call materialize(model) first, or pickle the factory instead.",
    )


class Places(Opaque):
    """The origins of one module's parameters and buffers, by local name."""

    __slots__ = ("_owner", "origins", "recording")

    def __init__(self, owner: nn.Module | None, recording: Recording) -> None:
        self.recording = recording
        self.origins: dict[str, Origin] = {}
        self._owner = None if owner is None else weakref.ref(owner)

    def registered(self, name: str, tensor: torch.Tensor | None) -> None:
        """Learn what the module holds under ``name`` from now on."""
        before = self.origins.pop(name, None)
        if tensor is None:
            return
        origin = carried(tensor, self.recording)
        if origin is None and before is not None and before.ref is not None:
            if wraps_others(tensor):  # a shard of it
                origin = before
            elif before.tied and tensor.is_meta and tensor.shape == before.ref.size:
                origin = before._replace(copied=object(), tied=False).noted(tensor)  # a tie cut
                tensor.__dict__[ORIGIN] = origin
        if origin is not None:
            self.origins[name] = origin

    def origin_of(self, name: str) -> Origin | None:
        """Return the origin of what torch has put under ``name`` past its registration hooks."""
        origin = self.origins.get(name)
        return None if origin is None else origin._replace(version=0, memory=None)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Places:
        """Return the table of a copy, and note the origins of the copied tensors on them."""
        owner = None if self._owner is None else self._owner()
        copying, seen = memo.setdefault(ORIGIN, (object(), {}))
        copied = Places(memo.get(id(owner)), self.recording)
        copied.origins = {
            name: origin._replace(copied=copying) for name, origin in self.origins.items()
        }
        if owner is None:
            return copied
        for tensor in _held_by(owner, seen):
            origin = carried(tensor, self.recording)
            if origin is not None and tensor.is_leaf:
                twin: torch.Tensor = copy.deepcopy(tensor, memo)
                if twin is not tensor:
                    twin.__dict__[ORIGIN] = _of_copy(origin, tensor, twin, copying)
        for held in (owner._parameters, owner._buffers):
            for name, value in held.items():
                origin = carried(memo.get(id(value)), self.recording)
                if origin is not None:
                    copied.origins[name] = origin
        return copied

    def __reduce__(self) -> Any:
        raise unpicklable()


def carried(tensor: torch.Tensor | None, recording: Recording) -> Origin | None:
    """Return the origin that a tensor has by itself: noted on it, or by what it looks at."""
    if tensor is None:
        return None
    own: Origin | None = tensor.__dict__.get(ORIGIN)
    with no_function_modes():
        storage = recording.tape.find(tensor) if is_plain_meta(tensor) else None
        if storage is None:
            return own
        if own is None:  # a new view of something recorded
            own = Origin(recording, None).noted(tensor)
        ref = recording.tape.ref_at(storage, tensor)
        return own if ref is own.ref else own._replace(ref=ref)


def _of_copy(origin: Origin, tensor: torch.Tensor, twin: torch.Tensor, copying: object) -> Origin:
    """Return the origin of a copy; it was written or exchanged if what was copied was."""
    with no_function_modes():
        noted = origin._replace(copied=copying).noted(twin)
        if origin.written(tensor):
            noted = noted._replace(version=-1)
        return noted._replace(memory=origin.memory) if origin.exchanged(tensor) else noted


def _held_by(module: nn.Module, seen: dict[int, Any]) -> list[torch.Tensor]:
    """Return the tensors that a module holds itself, in lists and other objects too."""
    own = [tensor for _, tensor, owner in named_tensors(module) if owner is module]
    others = [value for key, value in vars(module).items() if key not in _CONTENTS]
    return [*own, *tensors_of(reached(others, seen=seen, modules=()))]


_CONTENTS = ("_parameters", "_buffers", "_modules")


def note_origins(model: nn.Module, recording: Recording) -> None:
    """Leave a recording with a deferred model, with all of its modules and tensors."""
    if not _installed:
        _install()
    recording.original = weakref.ref(model)
    for module in model.modules():
        module.__dict__.setdefault(DEFERRED, Places(module, recording))  # a part may have its own
    with no_function_modes():
        named = named_tensors(model)
        names = Counter(id(tensor) for _, tensor, _ in named)
        for name, tensor, module in named:
            origin = tensor.__dict__.get(ORIGIN)
            if origin is None:
                tied = names[id(tensor)] > 1
                origin = _note(tensor, recording, recording.refs.get(name), tied=tied)
            local = name.rpartition(".")[2]
            if local in module._parameters or local in module._buffers:
                module.__dict__[DEFERRED].origins[local] = origin
        for tensor in recording.handed.kept():
            storage = None if ORIGIN in tensor.__dict__ else recording.storage_of(tensor)
            if storage is not None:
                _note(tensor, recording, recording.tape.ref_at(storage, tensor))


def _note(
    tensor: torch.Tensor, recording: Recording, ref: Ref | None, *, tied: bool = False
) -> Origin:
    memory = None if ref is None else recording.tape.memory(ref.storage)
    origin = Origin(recording, ref, version_of(tensor), memory, None, tied)
    tensor.__dict__[ORIGIN] = origin
    return origin


_installed: list[bool] = []


def _install() -> None:
    """Learn what is registered in deferred modules; installed when the first one is."""
    _installed.append(True)
    parameters: Any = register_module_parameter_registration_hook
    buffers: Any = register_module_buffer_registration_hook
    install("origins of deferred parameters", parameters, _on_register)
    install("origins of deferred buffers", buffers, _on_register)


def _on_register(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
    places: Places | None = module.__dict__.get(DEFERRED)
    if places is not None:
        with no_function_modes():
            places.registered(name, tensor)
