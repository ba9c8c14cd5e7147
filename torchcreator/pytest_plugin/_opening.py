"""Scopes that are opened in one place and closed in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torchcreator._chain import observers
from torchcreator.pytest_plugin._open_scopes import OpenScope, OpenScopes


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
