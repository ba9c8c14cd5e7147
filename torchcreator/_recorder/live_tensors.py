"""The tensor objects that a constructor left behind, wherever it holds them.

Modules hold parameters and buffers; but a constructor may also keep tensors in plain attributes,
lists, closures and optimizers. All of them must become real, and stay the objects they are.
"""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Container, Iterable
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from torchcreator._recorder.pytree import META
from torchcreator._recorder.tape import Ref, Tape
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.modules import joined, paths
from torchcreator._torch.tensors import (
    accumulation_hooks,
    can_share_data,
    exchange,
    held_in_torch,
    is_plain_meta,
    set_accumulation_hooks,
    viewers,
    wraps_others,
)

ORIGIN = "_torchcreator_origin"
"""The attribute of a deferred model's tensor that says where it comes from."""
Object = tuple[torch.Tensor, Ref]
Objects = dict[int, list[Object]]
"""Tensor objects and what they look at, by storage."""


class Handed:
    """The tensor objects on meta that torch handed to a constructor.

    They are held, not watched: `torch.utils.swap_tensors`, which a constructor may call, refuses
    a tensor that has a weak reference.
    """

    def __init__(self) -> None:
        nobodys = torch.empty(0, device=META)
        self._held: dict[int, torch.Tensor] = {id(nobodys): nobodys}

    def note(self, result: Any) -> None:
        """Remember what a function of torch returned, if it is or has tensors on meta."""
        kind = type(result)
        if kind is torch.Tensor or (kind not in _ANSWERS and issubclass(kind, torch.Tensor)):
            if result.is_meta:
                self.hold(result)
        elif kind is list or (kind not in _ANSWERS and issubclass(kind, tuple)):
            for item in result:
                self.note(item)

    def hold(self, tensor: torch.Tensor) -> None:
        """Remember a tensor on meta."""
        self._held[id(tensor)] = tensor

    def forget(self, tensor: torch.Tensor) -> None:
        """Hold a tensor no longer, if it is one of them."""
        self._held.pop(id(tensor), None)

    def kept(self) -> list[torch.Tensor]:
        """Return those that somebody else holds too, and forget the others."""
        counts = [sys.getrefcount(tensor) for tensor in self._held.values()]
        alone = counts[0]  # the first is nobody else's
        nobodys, *others = self._held.values()
        kept = [
            tensor
            for tensor, count in zip(others, counts[1:], strict=True)
            if count > alone or held_in_torch(tensor)
        ]
        self._held = {id(tensor): tensor for tensor in (nobodys, *kept)}
        return kept


_ANSWERS = frozenset({type(None), bool, int, float, str, torch.Size, torch.dtype, torch.device})
"""What torch's functions return most besides tensors."""


def all_objects(tape: Tape, known: Objects, handed: Handed, roots: Iterable[Any]) -> Objects:
    """Return every tensor object whose storage the tape knows.

    Torch counts what looks at a storage. Where that is more than those of ``known``, the others
    are among the objects that were handed to the constructor; or else it made them past torch's
    functions (as `nn.Parameter` does) and keeps them where it left them.

    Args:
        tape: The tape.
        known: Those that the model holds.
        handed: Those that torch handed to the constructor.
        roots: What everything is reached from that the constructor left behind.
    """
    kept = handed.kept()
    if _complete(tape, known):
        return known
    held = [tensor for objects in known.values() for tensor, _ in objects]
    found = _recorded(tape, [*held, *kept])
    if _complete(tape, found):
        return found
    return _recorded(tape, [*held, *kept, *tensors_of(reached(roots))])


def _complete(tape: Tape, found: Objects) -> bool:
    storages = range(len(tape))
    return all(viewers(tape.memory(number)) == len(found.get(number, ())) for number in storages)


def _recorded(tape: Tape, tensors: Iterable[torch.Tensor]) -> Objects:
    """Return those of some tensors whose storages the tape knows, by storage."""
    found: Objects = {}
    with no_function_modes():
        for tensor in {id(tensor): tensor for tensor in tensors}.values():
            storage = tape.find(tensor) if is_plain_meta(tensor) else None
            if storage is not None:
                found.setdefault(storage, []).append((tensor, tape.ref_at(storage, tensor)))
    return found


class Opaque:
    """An object of ours, which is not looked into for tensors."""

    __slots__ = ()


def reached(
    roots: Iterable[Any],
    *,
    seen: dict[int, Any] | None = None,
    modules: Container[int] | None = None,
) -> dict[int, Any]:
    """Return what is reached from ``roots`` through whatever objects hold it, by its id.

    From an object to what it holds, never the other way round: what another thread is still
    making is reached from nowhere.

    Args:
        roots: Where to begin.
        seen: What is not looked into, by id; what is reached is added.
        modules: The only modules to be looked into, by id; None for all.
    """
    found: dict[int, Any] = {}
    seen = {} if seen is None else seen  # held, so that no other object gets their addresses
    todo = list(roots)
    while todo:
        new = {
            id(value): value
            for value in todo
            if id(value) not in seen
            and gc.is_tracked(value)
            and (modules is None or id(value) in modules or not issubclass(type(value), nn.Module))
        }
        seen.update(new)
        found.update(new)
        todo = gc.get_referents(*map(_ways_on, new.values()))
    return found


def tensors_of(found: dict[int, Any]) -> list[torch.Tensor]:
    """Return the tensors among what was reached."""
    # Not isinstance: it would ask every lazy proxy for its class.
    return [value for value in found.values() if issubclass(type(value), torch.Tensor)]


def _ways_on(value: Any) -> Any:
    """Return what leads from an object to those it holds: not to a whole library."""
    kind = type(value)
    if kind is FunctionType:  # its globals are left out
        return (value.__closure__, value.__defaults__, value.__kwdefaults__, value.__dict__)
    return () if kind in _LIBRARIES or issubclass(kind, (type, Opaque)) else value


_LIBRARIES = frozenset({ModuleType, CodeType})


class Gradient(NamedTuple):
    """A gradient that was taken away from a recorded tensor.

    Attributes:
        tensor: The tensor, or what has taken its place since.
        gradient: The gradient.
        storage: What the tensor looked at.
        before: The id of the tensor.
    """

    tensor: torch.Tensor
    gradient: torch.Tensor
    storage: int
    before: int


def gradients_of(objects: Objects) -> list[Gradient]:
    """Take the gradients away from recorded tensor objects, and return them.

    Torch refuses a gradient on another device than its tensor: both have to be filled first.
    """
    found: list[Gradient] = []
    for tensor, ref in [pair for recorded in objects.values() for pair in recorded]:
        if tensor.is_leaf and tensor.grad is not None:
            found.append(Gradient(tensor, tensor.grad, ref.storage, id(tensor)))
            tensor.grad = None
    return found


def put_gradients(gradients: Iterable[Gradient]) -> None:
    """Give gradients back, each in the form that its tensor has now."""
    for tensor, gradient, _, _ in gradients:
        tensor.grad = gradient.to(device=tensor.device, dtype=tensor.dtype)


def replace(tensor: torch.Tensor, real: torch.Tensor, *, requires_grad: bool | None = None) -> None:
    """Put ``real`` into a meta tensor object, which keeps its class, attributes and hooks.

    Args:
        tensor: The object.
        real: What it is to hold; a tensor that nobody else refers to.
        requires_grad: None keeps what ``tensor`` has. One computed from parameters becomes a leaf.
    """
    with no_function_modes():
        is_leaf = tensor.is_leaf
        if requires_grad is None:
            requires_grad = is_leaf and tensor.requires_grad
        if requires_grad is not real.requires_grad:
            real.requires_grad_(requires_grad)
        hooks, after = tensor._backward_hooks, accumulation_hooks(tensor)
        grad = tensor.grad if is_leaf else None
        exchange(tensor, real)
        # These live in the memory that was exchanged.
        if hooks is not None:
            tensor._backward_hooks = hooks
        if after is not None:
            set_accumulation_hooks(tensor, after)
        if grad is not None:
            tensor.grad = grad


def put_data(parameter: nn.Parameter, data: torch.Tensor) -> None:
    """Let a parameter hold ``data``, of any kind; it stays the object, of the class, that it is.

    It has no gradient after that: integer dtypes are refused while there is one.
    """
    parameter.requires_grad_(False)
    if not wraps_others(parameter) and can_share_data(parameter, data):
        parameter.data = data
    else:
        replace(parameter, data.view_as(data), requires_grad=False)


Named = tuple[str, torch.Tensor, nn.Module]
"""A tensor, its full name, and the module that holds it by the last part of that name."""


def named_tensors(model: nn.Module) -> list[Named]:
    """Return every parameter, buffer and plain tensor attribute of a model by each full name.

    A gradient that one of them has follows as an attribute, and so does what one of them wraps.
    """
    parameters: list[Named] = []
    buffers: list[Named] = []
    attributes: list[Named] = []
    for path, module in paths(model):
        for held, found in (
            (module._parameters, parameters),
            (module._buffers, buffers),
            (vars(module), attributes),
        ):
            for name, value in held.items():
                if type(value) not in _NO_TENSORS and isinstance(value, torch.Tensor):
                    full = joined(path, name)
                    found.append((full, value, module))
                    if type(value) not in _PLAIN or (value.is_leaf and value.grad is not None):
                        attributes += [(f"{full}.{n}", t, module) for n, t in _within(value)]
    return [*parameters, *buffers, *attributes]


def _within(tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Return the gradient of a tensor, and the tensors that it wraps."""
    found = []
    if tensor.is_leaf and tensor.grad is not None:
        found.append(("grad", tensor.grad))
    if type(tensor) not in _PLAIN and wraps_others(tensor) and not is_sharded(tensor):
        found += [item for item in vars(tensor).items() if isinstance(item[1], torch.Tensor)]
    return found


_PLAIN = frozenset({torch.Tensor, nn.Parameter})
_NO_TENSORS = frozenset({type(None), bool, int, float, str, tuple, list, set, dict, OrderedDict})
"""What modules hold most; torch's classes take longer to say what is an instance of them."""
