"""Whether some module already holds a parameter: then it is tied or moved, not made.

A parameter that its constructor makes and registers at once has as few references as there can be.
Further ones may be variables of the constructor, or a module. The variables are counted; only where
they do not account for all is it asked what refers to the parameter, by a walk over what lives.
Nothing is kept from one question to the next, but for what a walk was asked along with it.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import nn

from torchcreator._chain.open_scopes import Root
from torchcreator._spec.live_modules import holders, referrers
from torchcreator._spec.table import tables_with

_COPIES_LOCALS = sys.version_info < (3, 13)
"""Whether `FrameType.f_locals` leaves a copy of the variables with the frame, which holds them."""
_LENDS_LOCALS = sys.version_info >= (3, 14)
"""Whether a variable may refer to an object without being counted, so that none can be."""
_FROZEN = 50_000
"""So many objects are out of sight of `gc.get_referrers` after `gc.freeze`, torch's own at least;
Python 3.12 starts with a few hundred."""


def held(root: Root, parameter: nn.Parameter, registrar: FrameType, least: int) -> bool:
    """Return whether a live module holds ``parameter``.

    Args:
        root: What the outermost open scope owns.
        parameter: A parameter that is being registered.
        registrar: The frame that called the registration hook.
        least: What `unexplained` counts for one that nobody holds.
    """
    if root.free.pop(id(parameter), None) is parameter:
        return False
    everywhere = gc.get_freeze_count() > _FROZEN
    frames = [*_frames(registrar, everywhere=everywhere)]
    more = unexplained(parameter, frames) - least
    if more <= 0:
        return False
    if next(tables_with(parameter), None) is not None:
        return True
    asked = {id(p): p for p in (parameter, *_in_sight(frames))}
    modules = holders([*asked.values()])
    taken = {id(p) for module in modules for p in [*module._parameters.values()]}
    root.free = {number: p for number, p in asked.items() if number not in taken}
    root.free.pop(id(parameter), None)
    if id(parameter) in taken:
        return True
    del modules, asked
    return everywhere and more > _in_containers(parameter, frames)


def unexplained(parameter: nn.Parameter, frames: list[FrameType]) -> int:
    """Return how many references to a parameter are not those of variables in some frames."""
    explained = sum(_references(parameter, frame) for frame in frames)
    return sys.getrefcount(parameter) - explained


def _frames(registrar: FrameType, *, everywhere: bool) -> Iterator[FrameType]:
    """Yield the frames whose variables count: from here to the module's constructor.

    Of others the variables are not read, as the copy that it may leave would keep them alive: a
    constructor ends soon.
    """
    yield from ()


def _references(parameter: nn.Parameter, frame: FrameType) -> int:
    """Return how often the variables of a frame, and the copy of them, hold a parameter."""
    return 0


def _in_sight(frames: list[FrameType]) -> Iterator[nn.Parameter]:
    yield from ()


def _in_containers(parameter: nn.Parameter, frames: list[FrameType]) -> int:
    return 0
