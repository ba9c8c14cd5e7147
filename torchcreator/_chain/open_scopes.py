"""The open scopes of a thread or task: linked from the innermost outward, with what they share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import length_hint
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from torchcreator._torch import mode_stack
from torchcreator._torch.dispatch import dispatch_stack_depth

if TYPE_CHECKING:
    from torchcreator._spec.types import Creator, NextCreator

Step: TypeAlias = "tuple[Creator, NextCreator]"

_counting = Lock()
_LAST = sys.maxsize


class Names:
    """Gives each variable a name of its own: "w", "w_1", "w_2", ….

    One counter per name that was asked for, not one entry per name that was given. Asked again for
    a name, it takes no lock: the next number comes in one step of the interpreter.
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, Iterator[int]] = {}

    def unique(self, name: str) -> str:
        """Return ``name``, or ``name_N`` with the first free ``N`` if it was given before."""
        numbers = self._numbers.get(name)
        if numbers is None:
            with _counting:
                numbers = self._numbers.get(name)
                if numbers is None:
                    # Known before anything else is asked: a thread that takes the number which
                    # makes this name looks here next, or else is seen to have taken it.
                    numbers = self._numbers[name] = iter(range(1, _LAST))
                    if not self._given(name):
                        return name
        while (counted := f"{name}_{next(numbers)}") in self._numbers:
            pass
        return counted

    def forget(self) -> None:
        """Begin anew, as if no name had been given."""
        with _counting:
            self._numbers.clear()

    def _given(self, name: str) -> bool:
        """Return whether ``name`` was made here, as a counted form of another name."""
        base, _, suffix = name.rpartition("_")
        numbers = self._numbers.get(base)
        following = str(0 if numbers is None else _LAST - length_hint(numbers))
        # As text: int() reads other scripts' digits too, and refuses thousands of them.
        counted = suffix.isascii() and suffix.isdigit() and suffix[0] != "0"
        return counted and (len(suffix), suffix) < (len(following), following)


class Closing(Protocol):
    """What ends with the outermost scope."""

    def close(self) -> None:
        """Undo what was set up."""


class Root:
    """What the outermost open scope owns, for all scopes inside it.

    Attributes:
        names: The names given out in it.
        depth: How many of the user's modes were active when it opened; those opened later must
            close undisturbed.
        thread: The thread that opened it, or None once it is closed.
        pins: What protects values set in it, once there are some.
    """

    __slots__ = ("depth", "names", "pins", "thread")

    def __init__(self, names: Names | None = None) -> None:
        self.names = names  # most scopes name nothing
        self.depth = dispatch_stack_depth() and mode_stack.depth()  # nearly always none is active
        self.thread: int | None = get_ident()
        self.pins: Closing | None = None

    def counted(self) -> Names:
        """Return the names, made when they are first asked for."""
        if self.names is None:
            with _counting:  # tasks in other threads may have inherited this root
                self.names = self.names or Names()
        return self.names

    @classmethod
    def inside(cls, outward: Link) -> Root:
        """Return the root of a scope that opens now inside ``outward``."""
        if outward.root.thread == get_ident():
            return outward.root
        # Inherited from another thread, or by a task that outlived the scope: all but the names
        # is new.
        return cls(outward.root.counted())

    def close(self) -> None:
        """Undo what was set up for the scope."""
        self.thread = None  # a task that outlives the scope has the root still
        if self.pins is not None:
            self.pins.close()
            self.pins = None


class Link:
    """One creator of an open scope, and the chain from it outward.

    Immutable, so every thread and task keeps its own.

    Attributes:
        scope: The scope.
        creator: The creator, as the scope was given it.
        outward: The link around it.
        step: The creator as it is called, and the rest of the chain, its ``next_creator``.
        module_step: The same for stock modules' parameters; None if no open scope wants them.
        root: What the outermost scope owns.
    """

    __slots__ = ("creator", "module_step", "outward", "root", "scope", "step")

    def __init__(
        self,
        scope: Any,
        creator: Creator,
        outward: Link | None,
        step: Step,
        module_step: Step | None,
        root: Root,
    ) -> None:
        self.scope = scope
        self.creator = creator
        self.outward = outward
        self.step = step
        self.module_step = module_step
        self.root = root


current: ContextVar[Link | None] = ContextVar("torchcreator_scope", default=None)
innermost_link, set_innermost_link = current.get, current.set
"""As functions: Python makes an object for each call of a method of what a module imports."""
process_names = Names()


@contextmanager
def closed() -> Iterator[None]:
    """Close the scopes of this context in the block: a recorded constructor runs outside them."""
    token = current.set(None)
    try:
        yield
    finally:
        current.reset(token)


def unique_name(name: str) -> str:
    """Return a name that is unique within the outermost scope, or process-wide outside any."""
    link = current.get()
    return (process_names if link is None else link.root.counted()).unique(name)
