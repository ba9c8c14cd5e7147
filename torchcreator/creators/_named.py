"""Give a creator the name of the call that made it, for errors, scopes and ledgers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchcreator._spec.types import Creator


def named(text: str) -> Callable[[Any], Creator]:
    """Return a decorator that calls a creator ``text``, ``"on('cuda')"``, say."""

    def rename(creator: Any) -> Creator:
        creator.__name__ = creator.__qualname__ = text
        named_creator: Creator = creator
        return named_creator

    return rename
