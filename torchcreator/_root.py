"""What belongs to the outermost open scope, and the names given out in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar

from torchcreator import _modes

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
            while f"{name}_{number}" in self._next:
                number += 1
            self._next[name] = number + 1
            return f"{name}_{number}"

    def _given(self, name: str) -> bool:
        """Return whether ``name`` was made here, as a counted form of another name."""
        base, _, suffix = name.rpartition("_")
        return suffix.isdigit() and suffix[0] != "0" and int(suffix) < self._next.get(base, 0)


class Root:
    """The state of the outermost open scope of a thread or task."""

    __slots__ = ("__weakref__", "at_close", "depth", "names", "thread")

    def __init__(self) -> None:
        self.names = Names()
        # Modes that the user opens later sit above this depth and must close undisturbed.
        self.depth = _modes.depth()
        self.thread = threading.get_ident()
        self.at_close: list[Callable[[], None]] = []

    def close(self) -> None:
        """Undo what was set up for this scope."""
        while self.at_close:
            self.at_close.pop()()


process_names = Names()
root: ContextVar[Root | None] = ContextVar("torchcreator_root", default=None)


def unique_name(name: str) -> str:
    """Return a name that is unique within the outermost scope, or process-wide outside any."""
    current = root.get()
    return (process_names if current is None else current.names).unique(name)
