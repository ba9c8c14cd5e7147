"""Who is told of scopes that open and close: a test plugin, and whoever inspects.

Nothing in here needs torch, and nothing happens where nobody watches.
"""

from __future__ import annotations

from typing import Any, Protocol


class Watcher(Protocol):
    """Is told of every scope."""

    def opened(self, scope: Any) -> None:
        """Note that a scope was opened."""

    def closed(self, scope: Any) -> None:
        """Note that a scope was closed."""


watcher: Watcher | None = None


class Tracer(Protocol):
    """Stands between the creators of the scopes that open while it is there."""

    def traced(self, creator: Any, outward: Any) -> Any:
        """Return what is called in the place of a scope's creator, inside ``outward``."""


tracer: Tracer | None = None
