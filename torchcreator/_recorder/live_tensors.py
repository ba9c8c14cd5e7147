"""The tensor objects that a constructor left behind, wherever it holds them.

Modules hold parameters and buffers; but a constructor may also keep tensors in plain attributes,
lists, closures and optimizers. All of them must become real, and stay the objects they are.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from torchcreator._recorder.tape import Ref, Tape
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.tensors import (
    accumulation_hooks,
    can_share_data,
    exchange,
    is_plain_meta,
    set_accumulation_hooks,
    viewers,
)

Object = tuple[torch.Tensor, Ref]
Objects = dict[int, list[Object]]
"""Tensor objects and what they look at, by storage."""


class Births:
    """Finds the objects born inside the block, without a walk over the whole heap.

    While the garbage collector rests, every new object stays in its youngest generation.
    """

    def __enter__(self) -> Births:
        self._was_enabled = gc.isenabled()
        gc.disable()
        self._collections = _collections()
        return self

    def __exit__(self, *_: object) -> None:
        if self._was_enabled:
            gc.enable()

    def objects(self) -> list[Any]:
        """Return the objects born since, and some older ones; to be called inside the block."""
        if _collections() == self._collections:
            return gc.get_objects(generation=0)
        return gc.get_objects()  # someone called gc.collect(): they may be anywhere


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def all_objects(tape: Tape, known: Objects, candidates: Callable[[], Iterable[Any]]) -> Objects:
    """Return every tensor object whose storage the tape knows.

    Args:
        tape: The tape.
        known: Those that the model holds.
        candidates: Returns objects among which the others are. Only called where torch counts
            other references to the storages than those of ``known``.
    """
    for number in range(len(tape)):
        if viewers(tape.memory(number)) != len(known.get(number, ())):
            return _recorded(tape, candidates())
    return known


def _recorded(tape: Tape, objects: Iterable[Any]) -> Objects:
    """Return the tensors among ``objects`` whose storages the tape knows, by storage."""
    found: Objects = {}
    kinds: dict[type, bool] = {}
    with no_function_modes():
        for value in objects:
            # Not isinstance: it would ask every lazy proxy on the heap for its class.
            kind = type(value)
            is_tensor = kinds.get(kind)
            if is_tensor is None:
                is_tensor = kinds[kind] = issubclass(kind, torch.Tensor)
            if not is_tensor or not is_plain_meta(value):
                continue
            storage = tape.find(value)
            if storage is not None:
                found.setdefault(storage, []).append((value, tape.ref_at(storage, value)))
    return found


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
    if can_share_data(parameter, data):
        parameter.data = data
    else:
        replace(parameter, data.view_as(data), requires_grad=False)
