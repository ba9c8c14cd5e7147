"""Put a creator's own parameter wherever else the constructor kept the one that it replaces."""

from __future__ import annotations

import gc
import sys
from types import CellType
from typing import Any

from torch import nn


def take_over(replaced: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Exchange parameters in an optimizer's groups, flat weights, closures, the user's objects.

    Not in what cannot be written to from Python: a `functools.partial`, slots, another library's C.

    Args:
        replaced: Pairs of the constructor's parameter and the creator's.
    """
    # Held by `replaced`'s tuple, the loop variable and the argument; more means someone else.
    held: list[Any] = [old for old, _ in replaced if sys.getrefcount(old) > 3]
    if not held:
        return
    new_of: dict[int, Any] = {id(old): new for old, new in replaced}
    tuples = _tuples_around(held, {id(pair) for pair in replaced})
    for value in tuples.values():
        _renew(value, tuples, new_of)
    own = {id(held), id(new_of), id(tuples), *(id(pair) for pair in replaced)}
    for holder in gc.get_referrers(*held, *tuples.values()):
        if id(holder) not in own:
            _exchange(holder, new_of)


def _tuples_around(held: list[Any], ours: set[int]) -> dict[int, tuple[Any, ...]]:
    """Return the tuples that hold some objects, or hold tuples that do, by id."""
    found: dict[int, tuple[Any, ...]] = {}
    inner = held
    while inner:
        inner = [
            holder
            for holder in gc.get_referrers(*inner)
            if isinstance(holder, tuple) and id(holder) not in ours and id(holder) not in found
        ]
        found.update({id(holder): holder for holder in inner})
    return found


def _renew(value: Any, tuples: dict[int, tuple[Any, ...]], new_of: dict[int, Any]) -> Any:
    """Return what takes the place of a value; a tuple is made again, from the inside."""
    if id(value) not in new_of and id(value) in tuples:
        items = [_renew(item, tuples, new_of) for item in value]
        named = hasattr(value, "_fields")
        new_of[id(value)] = type(value)(*items) if named else type(value)(items)
    return new_of.get(id(value), value)


def _exchange(holder: object, new_of: dict[int, Any]) -> None:
    """Put the new objects into something that holds old ones."""
    if isinstance(holder, CellType):
        holder.cell_contents = new_of.get(id(holder.cell_contents), holder.cell_contents)
    elif type(holder) is list:
        holder[:] = [new_of.get(id(value), value) for value in holder]
    elif type(holder) is set:
        for value in [value for value in holder if id(value) in new_of]:
            holder.remove(value)
            holder.add(new_of[id(value)])
    else:
        names = holder if isinstance(holder, dict) else getattr(holder, "__dict__", None)
        if isinstance(names, dict):
            for name in [name for name, value in names.items() if id(value) in new_of]:
                names[name] = new_of[id(names[name])]
