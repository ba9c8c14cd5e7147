"""Whether some module already holds a parameter: then it is tied or moved, not made.

A parameter that is registered as soon as it is made has as few references as there can be. Further
ones may be its constructor's variables, or a module. The variables are accounted for; where more
is left, the tables of declared modules are asked, and at last what lives is walked over for what
refers to the parameter. Nothing is kept from one question to the next.
"""

from __future__ import annotations

import _thread
import gc
import inspect
import sys
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.modules.rnn import RNNBase

from torchcreator._spec.live_modules import holders, referrers
from torchcreator._spec.table import tables_with

_COPIES_VARIABLES = sys.version_info < (3, 13)
"""Whether `FrameType.f_locals` leaves a copy with the frame, which refers to all once more."""
_LENDS_VARIABLES = sys.version_info >= (3, 14)
"""Whether a variable may refer to an object uncounted, so that none can be accounted for."""
SETATTR = nn.Module.__setattr__.__code__
_HIDDEN = 50_000
"""More objects than these are out of sight of `gc.get_referrers` after `gc.freeze`: those of torch
alone are more. Python 3.12 starts with a few hundred."""
_MAKING: tuple[CodeType, ...] = (RNNBase.__init__.__code__,)
"""Constructors that make all they register, and keep it where no variable shows it: in a `zip`."""
_STACKING: tuple[CodeType, ...] = (
    nn.ParameterList.append.__code__,  # self[index] = value
    *((nn.ParameterList.extend.__code__,) if sys.version_info < (3, 11) else ()),  # self.append
)
"""Functions that hold what is registered once more while it is."""


def held(parameter: nn.Parameter, further: int) -> bool:
    """Return whether a live module holds a parameter that is being registered.

    Args:
        parameter: The parameter.
        further: How many more references to it are unaccounted for than to one just made.
    """
    if further <= 0 or caller(sys._getframe(2)).f_code in _MAKING:
        return False
    if next(tables_with(parameter), None) is not None or holders([parameter]):
        return True
    if gc.get_freeze_count() <= _HIDDEN:
        return False
    return further > _in_sight(parameter, sys._getframe(1))  # a hidden module, for all we know


def unaccounted(parameter: nn.Parameter) -> int:
    """Return how many references to a parameter are not those of variables on the stack.

    To be called by the registration hook. Read are the variables of all that runs now, back to
    the module's constructor.
    """
    frames = _frames(sys._getframe(1))
    seen: set[int] = set()
    accounted = _references(parameter, sys._getframe(), seen)
    for frame in frames:
        accounted += _references(parameter, frame, seen)
    return sys.getrefcount(parameter) - accounted


def _frames(hook: FrameType) -> list[FrameType]:
    """Return the frames from the hook to the module's constructor, or only to what registers."""
    registrar, frames = caller(hook.f_back), [hook]
    last = constructor(registrar)
    while (following := frames[-1].f_back) is not None and frames[-1] is not last:
        if following is registrar and last is None:
            break
        frames.append(following)
    return frames


_REGISTERING = ("register_parameter", "__setattr__")


def caller(frame: FrameType | None) -> FrameType:
    """Return what called torch's functions that register a parameter."""
    assert frame is not None
    while frame.f_code.co_name in _REGISTERING and (outward := frame.f_back) is not None:
        frame = outward
    return frame


def constructor(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the innermost module that is being constructed, if there is one."""
    while frame is not None and constructed(frame) is None:
        frame = frame.f_back
    return frame


def constructed(frame: FrameType) -> nn.Module | None:
    """Return the module whose ``__init__`` a frame runs, if it runs one."""
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return None
    owner = _variables(frame)[0].get(code.co_varnames[0])
    # Not isinstance: that asks an object for its __class__, and proxies answer anything.
    return owner if issubclass(type(owner), nn.Module) else None


def _references(parameter: nn.Parameter, frame: FrameType, seen: set[int]) -> int:
    """Return how often a frame's variables refer to a parameter, they or lists and tuples in them.

    Args:
        parameter: The parameter.
        frame: The frame.
        seen: What was counted before, by id; added to.
    """
    (variables, copied), code = _variables(frame), frame.f_code
    names = [name for name, value in variables.items() if value is parameter]
    count = 0
    for value in variables.values():
        if type(value) in (list, tuple) and id(value) not in seen:
            seen.add(id(value))
            count += sum(item is parameter for item in value)
    if not code.co_flags & inspect.CO_OPTIMIZED:  # a class's or a module's namespace
        count += 0 if id(frame.f_locals) in seen else len(names)
    else:
        shared = (*code.co_cellvars, *code.co_freevars)  # one cell for several frames
        count += 0 if _LENDS_VARIABLES else sum(name not in shared for name in names)
        count += len(names) if copied else 0
    if copied or not code.co_flags & inspect.CO_OPTIMIZED:
        seen.add(id(frame.f_locals))
    return count + (code in _STACKING)


def _variables(frame: FrameType) -> tuple[dict[str, Any], bool]:
    """Return a frame's variables, and whether a copy of them stays with the frame.

    Up to Python 3.12 one does, and keeps them alive until the function returns. It is emptied
    here, unless somebody else has it, or a tracer may be about to write it back.
    """
    held = frame.f_locals
    variables = dict(held)
    if not (_COPIES_VARIABLES and frame.f_code.co_flags & inspect.CO_OPTIMIZED):
        return variables, False
    if sys.gettrace() is not None or sys.getrefcount(held) > 3:  # ours, the call's, the frame's
        return variables, True
    held.clear()
    return variables, False


def _in_sight(parameter: nn.Parameter, hook: FrameType) -> int:
    """Return how many references `unaccounted` left that are those of something to be seen.

    They are those of the variables that it did not read, and of what a walk finds.
    """
    seen: set[int] = set()
    inner = [sys._getframe(), sys._getframe(1), *_frames(hook)]
    for frame in inner:
        _references(parameter, frame, seen)
    before, found = sys.getrefcount(parameter), 0
    outer = inner[-1].f_back
    while outer is not None:
        found += _references(parameter, outer, seen)
        outer = outer.f_back
    found -= sys.getrefcount(parameter) - before  # the copies that reading made just now
    for holder in referrers([parameter]):  # in a loop: a generator would be one of them
        if id(holder) not in seen:
            found += [id(value) for value in gc.get_referents(holder)].count(id(parameter))
    return found


class _Probe(nn.Module):
    """Registers fresh parameters in the two ways there are, to count the references to them."""

    def __init__(self) -> None:
        super().__init__()
        self.assigned = nn.Parameter(torch.empty(0))
        self.register_parameter("registered", nn.Parameter(torch.empty(0)))


class References(NamedTuple):
    """The references to a parameter that nobody holds, in the hook."""

    counted: int
    unaccounted: int


FRESH: dict[bool, References] = {}
"""Those of a fresh parameter, by whether it came by assignment."""


def _count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    if isinstance(module, _Probe):
        by_setattr, counted = sys._getframe(2).f_code is SETATTR, sys.getrefcount(parameter)
        FRESH[by_setattr] = References(counted, unaccounted(parameter))


def measure() -> None:
    """Count in a thread that nobody traces.

    A tracer that reads `FrameType.f_locals` adds references: counted with them, a parameter that
    a module holds would pass for a fresh one when the tracer is gone.
    """
    handle = register_module_parameter_registration_hook(_count)
    done = _thread.allocate_lock()
    done.acquire()

    def measure() -> None:
        try:
            _Probe()
        finally:
            done.release()

    _thread.start_new_thread(measure, ())  # `threading` would hand the tracer on
    done.acquire()
    handle.remove()
