"""The model that a build is giving its parameters, for creators that look at the whole of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Concatenate, TypeVar

from torch import nn
from typing_extensions import ParamSpec

P = ParamSpec("P")
R = TypeVar("R")


class Building:
    """One build under way.

    Attributes:
        model: The model; its parameters get their values one by one.
        finished: Whether they had values before, which they keep if the creators fail.
        at_end: Called when every parameter and every buffer has its value.
        cleanup: Closed when the build is over, however it ended.
    """

    def __init__(self, model: nn.Module, cleanup: ExitStack) -> None:
        self.model = model
        self.finished = False
        self.at_end: list[Callable[[], None]] = []
        self.cleanup = cleanup


building: ContextVar[Building | None] = ContextVar("torchcreator_building", default=None)


def under_way(
    fill: Callable[Concatenate[nn.Module, P], R],
) -> Callable[Concatenate[nn.Module, P], R]:
    """Let creators that ``fill(model, ...)`` calls know the model, and come back at the end."""

    @functools.wraps(fill)
    def inside(model: nn.Module, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as cleanup:
            this = Building(model, cleanup)
            cleanup.callback(building.reset, building.set(this))
            result = fill(model, *args, **kwargs)
            for finish in this.at_end:
                finish()
        return result

    return inside
