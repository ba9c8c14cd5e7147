"""Our hooks in torch: each is registered for good, and again if somebody removed it.

Nothing in here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


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
