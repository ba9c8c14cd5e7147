"""Say what a creator did that called the chain again and again until Python gave up."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any

from torchcreator._errors import CreatorRecursionError

_ENOUGH = 8
"""Nested calls of the chain in one traceback that nobody makes on purpose."""


def explained(error: RecursionError, entry: Callable[..., Any], name: str | None) -> RecursionError:
    """Return the error to raise for ``error``: itself, unless the chain called itself for ever.

    Args:
        error: What Python raised.
        entry: The function through which the chain is entered.
        name: The variable's name.
    """
    if isinstance(error, CreatorRecursionError):
        return error
    callers = _callers(error.__traceback__, entry.__code__)
    if len(callers) < _ENOUGH:
        return error
    return CreatorRecursionError(
        f"Creator {callers[-1]} made variables for ever, the last one {name or 'Variable'!r}.",
        "variable() and a module's constructor inside a creator run the whole chain again, "
        "this creator included.",
        "End the creator with: return next_creator(**kwargs)",
    )


def _callers(traceback: TracebackType | None, entry: CodeType) -> list[str]:
    """Return the function outside ``entry`` for each time that ``entry`` was called."""
    callers: list[str] = []
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code is entry and frame.f_back is not None:
            callers.append(frame.f_back.f_code.co_name)
        traceback = traceback.tb_next
    return callers
