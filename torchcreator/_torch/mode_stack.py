"""Keep a dispatch mode of our own in torch's mode stack, beside those that the user opens.

The stack is last in, first out, and a user's exit takes off whatever is on top. So a mode that is
entered from inside a hook goes below the modes that were opened after the scope it serves.
"""

from __future__ import annotations

from threading import RLock
from typing import TypeVar

from torchcreator._torch.dispatch import (
    DispatchMode,
    TorchDispatchMode,
    dispatch_modes,
    dispatch_stack_depth,
    pop_dispatch_mode,
    push_dispatch_mode,
)


class OwnMode(DispatchMode):
    """A mode that `share` and `leave` move; it does not count for `depth`."""

    removed = False
    users = 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let a model be compiled while the mode is active; torch would skip it for ever."""
        return True


Mode = TypeVar("Mode", bound=OwnMode)
_sharing = RLock()  # a collected generator may leave a scope at any point


def depth() -> int:
    """Return how many modes of other people are active in this thread."""
    if dispatch_stack_depth() == 0:  # nearly always
        return 0
    stack = _take_all()
    _put_back(stack)
    return sum(not isinstance(mode, OwnMode) for mode in stack)


def share(kind: type[Mode], depth: int) -> Mode:
    """Return the mode of a kind above the ``depth`` outermost modes of other people.

    It is made for the first that asks in this thread, and shared by the others: torch calls modes
    one inside the other, so that those of a thousand tasks would not fit on Python's stack.
    """
    with _sharing:
        stack = _take_all()
        index = passed = 0
        while index < len(stack) and (passed < depth or isinstance(stack[index], OwnMode)):
            passed += not isinstance(stack[index], OwnMode)
            index += 1
        found = stack[index - 1] if index else None
        mode = found if type(found) is kind else kind()
        _put_back(stack if mode is found else [*stack[:index], mode, *stack[index:]])
        mode.users += 1
        return mode


def leave(mode: OwnMode) -> None:
    """Give a shared mode back; the last one takes it out of the stack, and leaves the others.

    A thread can only change its own stack: out of another one's the mode goes when a scope is
    next opened there.
    """
    with _sharing:
        mode.users -= 1
        if mode.users == 0:
            mode.removed = True
            _put_back(_take_all())


def _take_all() -> list[TorchDispatchMode]:
    """Empty this thread's stack, and return the modes that belong in it, outermost first."""
    held = dispatch_modes()  # torch 2.10 frees what only its stack holds before it returns it
    for _ in held:
        pop_dispatch_mode()
    return [mode for mode in held if not (isinstance(mode, OwnMode) and mode.removed)]


def _put_back(modes: list[TorchDispatchMode]) -> None:
    for mode in modes:
        push_dispatch_mode(mode)
