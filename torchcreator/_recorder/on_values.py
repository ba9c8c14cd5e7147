"""Functions called on the values of recorded tensors, as torch cannot do it without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchcreator._recorder.op_schema import Traits
from torchcreator._recorder.pytree import mapped, tensors_in
from torchcreator._recorder.replay import bytes_of
from torchcreator._recorder.tape import Tape
from torchcreator._recorder.tape_writer import Log
from torchcreator._torch.dispatch import no_dispatch_modes, no_function_modes
from torchcreator._torch.tensors import is_plain_meta

Function = Callable[..., Any]
_DRAWS = Traits(draws=True)  # for all that is known


class NeedsValuesError(Exception):
    """An operation depends on more than is known of tensors without memory."""


def can_be_called_again(tape: Tape, before: int, args: Any, kwargs: Any) -> bool:
    """Return whether a call that failed may be repeated on values.

    It was made on recorded tensors, and neither drew nor wrote to what it did not make itself.

    Args:
        tape: The tape.
        before: How many operations there were on it before the call.
        args: The call's arguments.
        kwargs: The call's keyword arguments.
    """
    made: set[int] = set()
    for op in tape.ops[before:]:
        made.update(output.storage for output in op.outputs if output is not None)
        if op.traits.draws or not made.issuperset(op.writes):
            return False
    with no_function_modes():
        return any(
            is_plain_meta(tensor) and tape.find(tensor) is not None
            for tensor in tensors_in(args, kwargs)
        )


def on_values(log: Log, func: Function, args: Any, kwargs: Any) -> Any:
    """Call a function on the values of its arguments, at its place in the program.

    What it writes to recorded tensors becomes a constant; what it returns stays real.
    """
    copies = _Copies(log)

    def call(*args: Any, **kwargs: Any) -> Any:
        with no_dispatch_modes():
            return func(*args, **kwargs)

    with no_function_modes():
        args, kwargs = mapped(args, copies.of), mapped(kwargs, copies.of)
        result = log.draws.now(copies.device(), call, _DRAWS, args, kwargs)
        for tensor, value in copies.written():
            if value.shape != tensor.shape:
                log.escape(getattr(func, "__name__", str(func)), tensor)
            log.copy(tensor, value)
        return mapped(result, copies.original)


class _Copies:
    """The values of recorded tensors, each in memory of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor's value, or the tensor if it is not a recorded one."""
        if not (tensor.is_meta and self._log.knows(tensor)):
            return tensor
        if id(tensor) not in self._copies:
            with no_dispatch_modes():
                value = self._log.value(tensor)
                if tensor.requires_grad:  # what is an error for a leaf is one here
                    value.requires_grad_()
                    value = value if tensor.is_leaf else value.clone()
                before = bytes_of(value.untyped_storage()).clone()
            self._copies[id(tensor)] = tensor, value, before
        return self._copies[id(tensor)][1]

    def device(self) -> torch.device:
        """Return where the first one is."""
        return next(value.device for _, value, _ in self._copies.values())

    def written(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return those that were written to; some operations do not raise the version."""
        with no_dispatch_modes():
            return [
                (tensor, value)
                for tensor, value, before in self._copies.values()
                if not torch.equal(bytes_of(value.untyped_storage()), before)
            ]

    def original(self, value: torch.Tensor) -> torch.Tensor:
        """Return the tensor whose value this is, or the value if it is none's."""
        found = (tensor for tensor, copy, _ in self._copies.values() if copy is value)
        return next(found, value)
