"""Let a value that a creator set survive the initialisation that a stock constructor still runs.

A constructor registers a parameter first and initialises it after. While a creator's value is
pinned, writes to its storage are dropped, but only those that come from inside a constructor:
loading, also in a constructor, optimizer steps and ``model.apply(init)`` in the same scope land.
"""

from __future__ import annotations

import functools
import sys
import threading
from types import FrameType
from typing import Any

import torch
from torch import nn

from torchcreator._chain.open_scopes import Root, current
from torchcreator._errors import ScopeError
from torchcreator._modules.ownership import constructed
from torchcreator._spec.table import SpecTable, copy_listeners, table_of
from torchcreator._torch import mode_stack
from torchcreator._torch.dispatch import no_function_modes, schema_of
from torchcreator._torch.modules import LOADS
from torchcreator._torch.tensors import is_gone, storage_key, weak_storage


class Sticky(mode_stack.OwnMode):
    """Drop the writes of constructors to pinned storages.

    Attributes:
        pins: By how many outermost scopes each storage is pinned, by its key.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pins: dict[int, int] = {}

    def pinned(self, tensor: object) -> bool:
        """Return whether the storage of ``tensor`` is protected."""
        if not isinstance(tensor, torch.Tensor):
            return False
        with no_function_modes():  # which may refuse to show a storage, as a recorder does
            return storage_key(tensor) in self.pins

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, less its writes to pinned storages if a constructor asks for them."""
        kwargs = kwargs or {}
        written = [
            args[index] if index < len(args) else kwargs.get(name) for index, name in _written(func)
        ]
        if not any(self._touches(value) for value in written) or not constructing():
            return func(*args, **kwargs)
        if isinstance(written[0], (list, tuple)):
            return self._on_the_others(func, written[0], args, kwargs)
        if all(self.pinned(value) for value in written if value is not None):
            returned = len(schema_of(func).returns)
            return None if returned == 0 else written[0] if returned == 1 else tuple(written)
        # Some outputs are pinned and some are not: run it, with scratch space for the pinned ones.
        scratch = {id(value): value.clone() for value in written if self.pinned(value)}
        result = func(
            *(scratch.get(id(arg), arg) for arg in args),
            **{name: scratch.get(id(arg), arg) for name, arg in kwargs.items()},
        )
        original = {id(scratch[id(value)]): value for value in written if id(value) in scratch}
        return tuple(original.get(id(item), item) for item in result)

    def _touches(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return any(self.pinned(item) for item in value)
        return self.pinned(value)

    def _on_the_others(self, func: Any, written: Any, args: Any, kwargs: Any) -> Any:
        """Run a ``_foreach_`` operation on those members of its lists that are not pinned."""
        free = [index for index, item in enumerate(written) if not self.pinned(item)]
        if not free:
            return None

        def thinned(value: Any) -> Any:
            parallel = isinstance(value, (list, tuple)) and len(value) == len(written)
            return [value[index] for index in free] if parallel else value

        return func(*map(thinned, args), **{name: thinned(v) for name, v in kwargs.items()})


@functools.cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Return the position and name of each argument that an operation writes to."""
    return tuple(
        (index, argument.name)
        for index, argument in enumerate(schema_of(func).arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def constructing(module: nn.Module | None = None) -> bool:
    """Return whether a module's ``__init__`` is on this thread's calling stack, and no load in it.

    A constructor that loads its weights means them, unlike the values it initialises.

    Args:
        module: Which one; None means any.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in LOADS:
        owner = constructed(frame)
        if owner is not None and (module is None or owner is module):
            return True
        frame = frame.f_back
    return False


class Pins:
    """The storages that one outermost scope protects.

    Args:
        depth: How many of the user's modes were active when it opened.
    """

    def __init__(self, depth: int) -> None:
        self.mode = mode_stack.share(Sticky, depth)
        # Weak, so that a replaced parameter's memory is freed; while the weak reference lives the
        # address is not used again.
        self._storages: dict[int, object] = {}
        self._room = 64

    def pin(self, tensor: torch.Tensor) -> None:
        """Protect the storage of ``tensor``."""
        with no_function_modes():
            key, reference = weak_storage(tensor)
        if key in self._storages:
            return
        if len(self._storages) >= self._room:  # now and then, so that a scope may stay open
            self._let_go([key for key, storage in self._storages.items() if is_gone(storage)])
            self._room = 2 * len(self._storages) + 64
        self._storages[key] = reference
        with _counting:
            self.mode.pins[key] = self.mode.pins.get(key, 0) + 1

    def close(self) -> None:
        """Protect nothing any more."""
        self._let_go([*self._storages])
        mode_stack.leave(self.mode)

    def _let_go(self, keys: list[int]) -> None:
        pins = self.mode.pins
        with _counting:  # a scope may be closed by another thread
            for key in keys:
                pins[key] -= 1
                if not pins[key]:
                    del pins[key]
                del self._storages[key]


_counting = threading.RLock()  # a collected generator may leave a scope at any point


def keeps(tensor: torch.Tensor) -> bool:
    """Return whether a write to ``tensor`` that is asked for now would be dropped."""
    link = current.get()
    pins = None if link is None else link.root.pins
    return isinstance(pins, Pins) and pins.mode.pinned(tensor) and constructing()


def pin(root: Root, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Keep the value of ``module``'s parameter until the outermost open scope closes."""
    if root.thread != threading.get_ident():
        raise ScopeError(
            f"A creator set the value of {type(module).__name__}.{name} in a thread or task that "
            "inherited its scope.",
            "The value is kept from the module's own initialisation in the thread that opened the "
            "scope, while it is open.",
            "Open the creator_scope inside the thread or task.",
        )
    pins = root.pins
    if not isinstance(pins, Pins):
        pins = root.pins = Pins(root.depth)
    pins.pin(parameter)
    table_of(module)  # copies of the module are seen through its table


def follow(root: Root, former: torch.Tensor | None, parameter: torch.Tensor | None) -> None:
    """Keep the value of what comes in the place of a parameter, if that one's is kept."""
    pins = root.pins
    if isinstance(pins, Pins) and parameter is not None and pins.mode.pinned(former):
        pins.pin(parameter)


def _follow_copies(original: SpecTable, copied: SpecTable) -> None:
    """Pin the copies of pinned parameters: nn.Transformer initialises the copies it made."""
    link = current.get()
    if link is not None:
        for name, parameter in original.parameters.items():
            follow(link.root, parameter, copied.parameters.get(name))


copy_listeners.append(_follow_copies)
