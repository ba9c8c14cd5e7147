"""Which scopes are open, in any thread or task; they may be closed in another than opened them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from torchcreator._call_site import opener, place
from torchcreator._chain import observers


@dataclass(frozen=True)
class OpenScope:
    """One open scope.

    Attributes:
        scope: The scope.
        file: The file that opened it.
        line: The line of that file.
        context: A copy of the context that it was opened in, an asyncio task's, say.
        owner: For how long it may stay open: whatever `OpenScopes.owner` was.
    """

    scope: Any
    file: str
    line: int
    context: Context
    owner: object

    def __str__(self) -> str:
        return f"{self.scope!r}, opened at {place(self.file, self.line)}"


@dataclass
class OpenScopes:
    """Every scope that is open now, in any thread or task, in the order of opening.

    Attributes:
        owner: What the scopes that open from now on belong to.
    """

    owner: object = None
    _open: dict[int, OpenScope] = field(default_factory=dict)

    def opened(self, scope: Any) -> None:
        """Note that a scope was opened, and where."""
        file, line = opener(sys._getframe(1))
        self._open[id(scope)] = OpenScope(scope, file, line, copy_context(), self.owner)

    def closed(self, scope: Any) -> None:
        """Forget a scope that was closed."""
        self._open.pop(id(scope), None)

    def of(self, *owners: object) -> list[OpenScope]:
        """Return the open scopes that belong to one of ``owners``, the innermost first."""
        found = [o for o in list(self._open.values()) if any(o.owner is one for one in owners)]
        return found[::-1]

    def record(self, scope: Any) -> OpenScope | None:
        """Return what is known of a scope, or None if it is closed."""
        return self._open.get(id(scope))


@contextlib.contextmanager
def opened(creator: Any, *, modules: bool = True) -> Iterator[None]:
    """Open a scope, and close it even if one that was opened inside it is still open."""
    from torchcreator import creator_scope

    assert isinstance(observers.watcher, OpenScopes)  # the guard's
    scope = creator_scope(creator, modules=modules)
    scope.__enter__()
    record = observers.watcher.record(scope)
    assert record is not None  # it has just been opened
    try:
        yield
    finally:
        close(record)


def close(record: OpenScope) -> None:
    """Close a scope, whichever task opened it; the guard reports those that were left inside."""
    from torchcreator import TorchCreatorError
    from torchcreator._chain.open_scopes import current

    link = current.get()
    while link is not None and link.scope is not record.scope:
        link = link.outward
    with contextlib.suppress(TorchCreatorError):
        if link is not None:
            record.scope.__exit__(None, None, None)
        elif record.scope.opened:
            record.context.run(record.scope.__exit__, None, None, None)
