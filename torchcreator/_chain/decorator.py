"""A scope as a decorator: each call of the function has a scope of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from torchcreator._errors import VariableTypeError, shown

P = ParamSpec("P")
R = TypeVar("R")

_RUN_LATER: tuple[Callable[[object], bool], ...] = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def decorated(scope: Any, function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with each of its calls inside a scope like ``scope``."""
    if any(runs_later(function) for runs_later in _RUN_LATER):
        raise VariableTypeError(
            f"{scope!r} decorates {shown(function)}.",
            "The body of a coroutine or generator runs after the call that makes it returned.",
            "Open the scope inside it: with creator_scope(creator): ...",
        )
    open_scope, creators, modules = type(scope), scope.creators, scope.modules

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with open_scope(*creators, modules=modules):
            return function(*args, **kwargs)

    return inside
