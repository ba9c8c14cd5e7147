"""The open scopes of a thread or task: linked from the innermost outward, with what they share."""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, TypeAlias

from torchcreator import _modes

if TYPE_CHECKING:
    from torch import nn

    from torchcreator._table import SpecTable
    from torchcreator._types import NextCreator

    Owners: TypeAlias = dict[int, tuple[weakref.ref[nn.Module | SpecTable], str]]

_counting = Lock()


class Names:
    """Gives each variable a name of its own: "w", "w_1", "w_2", ….

    One counter per name that was asked for, not one entry per name that was given.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Return ``name``, or ``name_N`` with the first free ``N`` if it was given before."""
        with _counting:
            number = self._next.get(name)
            if number is None and not self._given(name):
                self._next[name] = 1
                return name
            number = number or 1
            while (counted := f"{name}_{number}") in self._next:
                number += 1
            self._next[name] = number + 1
            return counted

    def forget(self) -> None:
        """Begin anew, as if no name had been given."""
        with _counting:
            self._next.clear()

    def _given(self, name: str) -> bool:
        """Return whether ``name`` was made here, as a counted form of another name."""
        base, _, suffix = name.rpartition("_")
        following = str(self._next.get(base, 0))
        # As text: int() reads other scripts' digits too, and refuses thousands of them.
        counted = suffix.isascii() and suffix.isdigit() and suffix[0] != "0"
        return counted and (len(suffix), suffix) < (len(following), following)


class Root:
    """What the outermost open scope owns, for all scopes inside it.

    Attributes:
        names: The names given out in it.
        depth: How many of the user's modes were active when it opened; those opened later must
            close undisturbed.
        thread: The thread that opened it, or None once it is closed.
        owners: Which module, or module's table, holds which parameter, by the parameter's id, once
            that was asked.
        sticky: The mode that protects values set in it, once there is one.
    """

    __slots__ = ("depth", "names", "owners", "sticky", "thread")

    def __init__(self, names: Names | None = None) -> None:
        self.names = names  # most scopes name nothing
        self.depth = _modes.depth()
        self.thread: int | None = get_ident()
        self.owners: Owners | None = None
        self.sticky: _modes.OwnMode | None = None

    def counted(self) -> Names:
        """Return the names, made when they are first asked for."""
        if self.names is None:
            with _counting:  # tasks in other threads may have inherited this root
                self.names = self.names or Names()
        return self.names

    def close(self) -> None:
        """Undo what was set up for the scope."""
        self.thread = None  # a task that outlives the scope has the root still
        if self.sticky is not None:
            _modes.remove(self.sticky)
            self.sticky = None


class Link:
    """One open scope, and the chain from it outward; immutable, so every task keeps its own.

    Attributes:
        scope: The scope.
        outward: The link of the scope around it.
        chain: Makes a variable with the creators from this scope outward.
        module_chain: The same for stock modules' parameters; None if no open scope wants them.
        root: What the outermost scope owns.
    """

    __slots__ = ("chain", "module_chain", "outward", "root", "scope")

    def __init__(
        self,
        scope: Any,
        outward: Link | None,
        chain: NextCreator,
        module_chain: NextCreator | None,
        root: Root,
    ) -> None:
        self.scope = scope
        self.outward = outward
        self.chain = chain
        self.module_chain = module_chain
        self.root = root


current: ContextVar[Link | None] = ContextVar("torchcreator_scope", default=None)
process_names = Names()


def unique_name(name: str) -> str:
    """Return a name that is unique within the outermost scope, or process-wide outside any."""
    link = current.get()
    return (process_names if link is None else link.root.counted()).unique(name)
