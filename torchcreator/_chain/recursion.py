"""Say what a creator did that called the chain again and again until Python gave up."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any

from torchcreator._errors import CreatorRecursionError, called

_ENOUGH = 8
"""Nested calls of the chain in one traceback that nobody makes on purpose."""


def explained(
    error: RecursionError, entry: Callable[..., Any], chain: Callable[..., Any], name: str | None
) -> RecursionError:
    """Return the error to raise for ``error``: itself, unless the chain called itself for ever.

    Args:
        error: What Python raised.
        entry: The function through which the chain is entered; it calls the first creator.
        chain: A link of the chain. It calls a creator, and as in ``entry``, its variable
            ``creator`` holds it.
        name: The variable's name.
    """
    if isinstance(error, CreatorRecursionError):
        return error
    link: CodeType = chain.__code__
    creators = _creators(error.__traceback__, entry.__code__, link)
    if len(creators) < _ENOUGH:
        return error
    return CreatorRecursionError(
        f"Creator {called(creators[-1])} made variables for ever, "
        f"the last one {name or 'Variable'!r}.",
        "variable() and a module's constructor inside a creator run the whole chain again, "
        "this creator included.",
        "End the creator with: return next_creator(**kwargs)",
    )


def _creators(traceback: TracebackType | None, entry: CodeType, link: CodeType) -> list[Any]:
    """Return the creator that was running each time that ``entry`` was called inside one."""
    running: Any = None
    found = []
    before: FrameType | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame is not before:  # a frame that raises anew comes twice
            if frame.f_code is entry and running is not None:
                found.append(running)
            if frame.f_code is entry or frame.f_code is link:
                running = frame.f_locals.get("creator", running)
        before, traceback = frame, traceback.tb_next
    return found
