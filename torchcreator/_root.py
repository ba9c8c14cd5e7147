"""What belongs to the outermost open scope, and the names given out in it."""

from __future__ import annotations

import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

from torchcreator import _modes

if TYPE_CHECKING:
    from torch import nn

_counting = threading.Lock()


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

    def _given(self, name: str) -> bool:
        """Return whether ``name`` was made here, as a counted form of another name."""
        base, _, suffix = name.rpartition("_")
        return suffix.isdigit() and suffix[0] != "0" and int(suffix) < self._next.get(base, 0)


class Root:
    """The state of the outermost open scope of a thread or task.

    Attributes:
        names: The names given out in it.
        depth: How many of the user's modes were active when it opened; those opened later must
            close undisturbed.
        thread: The thread that opened it.
        owners: Which module holds which parameter, by the parameter's id, once that was asked.
        sticky: The mode that protects values set in it, once there is one.
    """

    __slots__ = ("depth", "names", "owners", "sticky", "thread")

    def __init__(self) -> None:
        self.names = Names()
        self.depth = _modes.depth()
        self.thread = threading.get_ident()
        self.owners: dict[int, tuple[weakref.ref[nn.Module], str]] | None = None
        self.sticky: _modes.OwnMode | None = None

    def close(self) -> None:
        """Undo what was set up for this scope."""
        if self.sticky is not None:
            _modes.remove(self.sticky)
            self.sticky = None


process_names = Names()
root: ContextVar[Root | None] = ContextVar("torchcreator_root", default=None)


def unique_name(name: str) -> str:
    """Return a name that is unique within the outermost scope, or process-wide outside any."""
    current = root.get()
    return (process_names if current is None else current.names).unique(name)
