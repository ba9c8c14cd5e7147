"""What a test could leave behind, noted for a test plugin: open scopes, and our hooks in torch.

Nothing in here needs torch, and nothing happens where nobody watches.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

_BETWEEN = (f"{Path(__file__).parent}{os.sep}", contextlib.__file__)
"""Files that stand between a scope and the line that opened it."""


class Watcher(Protocol):
    """Is told of every scope."""

    def opened(self, scope: Any) -> None:
        """Note that a scope was opened."""

    def closed(self, scope: Any) -> None:
        """Note that a scope was closed."""


watcher: Watcher | None = None


class Tracer(Protocol):
    """Stands between the creators of the scopes that open while it is there."""

    def traced(self, scope: Any, outward: Any) -> Any:
        """Return what is called in the place of the scope's creator, inside ``outward``."""


tracer: Tracer | None = None


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


def opener(frame: FrameType, between: tuple[str, ...] = _BETWEEN) -> tuple[str, int]:
    """Return the file and line of the first frame that is in none of the files ``between``."""
    while frame.f_code.co_filename.startswith(between) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def place(file: str, line: int) -> str:
    """Return a line of a file as a message shows it: from the working directory, if it is there."""
    path = Path(file)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{line}"


@dataclass
class Hook:
    """A hook of ours in torch.

    Attributes:
        purpose: What works no more without it.
        register: Torch's function that registers it.
        function: The hook.
        handle: What torch gave for it.
    """

    purpose: str
    register: Callable[[Any], Any]
    function: Callable[..., Any]
    handle: Any

    @property
    def registered(self) -> bool:
        """Whether torch still has it."""
        hooks = self.handle.hooks_dict_ref()
        return hooks is not None and self.handle.id in hooks


_hooks: list[Hook] = []


def install(purpose: str, register: Callable[[Any], Any], function: Callable[..., Any]) -> None:
    """Register a hook of ours with torch for good.

    Args:
        purpose: What works no more without it.
        register: Torch's function that registers it.
        function: The hook.
    """
    _hooks.append(Hook(purpose, register, function, register(function)))


def hooks() -> tuple[Hook, ...]:
    """Return the hooks of ours that torch has, or should have."""
    return tuple(_hooks)


def reinstall_lost_hooks() -> Iterator[str]:
    """Register again what somebody removed, and yield the purpose of each such hook."""
    for hook in _hooks:
        if not hook.registered:
            hook.handle = hook.register(hook.function)
            yield hook.purpose
