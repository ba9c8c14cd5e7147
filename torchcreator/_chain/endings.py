"""What creators have to say when the scope closes that asked them."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from torchcreator._chain.open_scopes import current


class Ending(Protocol):
    """Something that a creator keeps for as long as one scope is open."""

    def close(self, error: object) -> None:
        """Say what there is to say; ``error`` is what the scope's block ended with, if it did."""


by_scope: dict[Any, dict[object, Ending]] = {}
"""By open scope, and in it by creator; empty nearly always."""


def scope_of(creator: object) -> Any:
    """Return the open scope of a creator, the outermost one if another creator calls it."""
    link = current.get()
    while link is not None:
        if link.creator is creator or link.outward is None:
            return link.scope if link.scope.opened else None  # a task may outlive its scopes
        link = link.outward
    return None


def forget(scope: object) -> None:
    """Let nobody say anything of a scope that closed out of turn: an error says enough."""
    by_scope.pop(scope, None)


def closed(scope: object, error: object = None) -> None:
    """Let the creators of a scope that has closed say what they have to; at the end of its exit."""
    with contextlib.ExitStack() as all_of_them:  # one that raises keeps no other from being heard
        for ending in reversed(by_scope.pop(scope, {}).values()):
            all_of_them.callback(ending.close, error)
