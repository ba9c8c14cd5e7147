"""Put a creator's own parameter wherever else the constructor kept the one that it replaces."""

from __future__ import annotations

import gc
import sys
from collections.abc import Container
from types import CellType
from typing import Any

from torch import nn

from torchcreator._spec.live_modules import referrers


def take_over(
    replaced: list[tuple[nn.Parameter, nn.Parameter]], *, within: Container[int] | None = None
) -> None:
    """Exchange parameters in an optimizer's groups, flat weights, closures, the user's objects.

    Not in what cannot be written to from Python: a `functools.partial`, slots, another library's C.

    Args:
        replaced: Pairs of the constructor's parameter and the creator's.
        within: The ids of the objects in which to exchange them; None means in all.
    """
    # How many references one has that nobody else holds differs between versions of Python.
    counts = [sys.getrefcount(old) for old, _ in [(object(), None), *replaced]]
    held: list[Any] = [
        old for (old, _), count in zip(replaced, counts[1:], strict=True) if count > counts[0]
    ]
    if not held:
        return
    new_of: dict[int, Any] = {id(old): new for old, new in replaced}
    own = {id(held), id(new_of), id(replaced), *map(id, replaced)}
    fixed = _fixed_around(held, own)
    for value in fixed.values():
        _renew(value, fixed, new_of)
    own |= {id(fixed), *map(id, fixed.values())}
    for holder in referrers([*held, *fixed.values()]):
        if id(holder) not in own and (within is None or id(holder) in within):
            _exchange(holder, new_of)


def unwritable(held: list[Any], within: Container[int]) -> tuple[Any, Any] | None:
    """Return one of some objects and what has it, or a tuple with it, where nothing is exchanged.

    Args:
        held: The objects.
        within: The ids of what is to have other ones.
    """
    fixed = _fixed_around(held, {id(held)})
    inner = {id(value): value for value in [*held, *fixed.values()]}
    for holder in referrers([*inner.values()]):
        kind = type(holder)
        written = kind in (CellType, list, set) or issubclass(kind, (dict, tuple, frozenset))
        if id(holder) in within and not written:
            names = getattr(holder, "__dict__", None)
            has = {id(value) for value in names.values()} if type(names) is dict else set()
            for value in gc.get_referents(holder):
                if id(value) in inner and id(value) not in has:
                    return _one_in(value, held, fixed), holder
    return None


def _one_in(value: Any, held: list[Any], fixed: dict[int, Any]) -> Any:
    """Return which object a value is, or has in it."""
    while id(value) in fixed:
        value = next(v for v in value if id(v) in fixed or any(v is one for one in held))
    return value


def _fixed_around(held: list[Any], own: set[int]) -> dict[int, Any]:
    """Return what cannot be changed and holds some objects, or holds such a thing, by id."""
    found: dict[int, Any] = {}
    inner = held
    while inner:
        inner = [
            holder
            for holder in referrers(inner)
            if issubclass(type(holder), (tuple, frozenset))
            and id(holder) not in own
            and id(holder) not in found
        ]
        found.update({id(holder): holder for holder in inner})
    return found


def _renew(value: Any, fixed: dict[int, Any], new_of: dict[int, Any]) -> Any:
    """Return what takes the place of a value; a tuple is made again, from the inside."""
    if id(value) not in new_of and id(value) in fixed:
        items = [_renew(item, fixed, new_of) for item in value]
        named = hasattr(value, "_fields")
        new_of[id(value)] = type(value)(*items) if named else type(value)(items)
    return new_of.get(id(value), value)


def _exchange(holder: Any, new_of: dict[int, Any]) -> None:
    """Put the new objects into something that holds old ones."""
    kind = type(holder)  # not isinstance: proxies may answer anything
    if kind is CellType:
        holder.cell_contents = new_of.get(id(holder.cell_contents), holder.cell_contents)
    elif kind is list:
        holder[:] = [new_of.get(id(value), value) for value in holder]
    elif kind is set:
        for value in [value for value in holder if id(value) in new_of]:
            holder.remove(value)
            holder.add(new_of[id(value)])
    elif issubclass(kind, dict):
        _exchange_items(holder, new_of)
    else:
        names = getattr(holder, "__dict__", None)
        if type(names) is dict:
            _exchange_items(names, new_of)


def _exchange_items(names: dict[Any, Any], new_of: dict[int, Any]) -> None:
    for name in [name for name, value in names.items() if id(value) in new_of]:
        names[name] = new_of[id(names[name])]
    if any(id(name) in new_of for name in names):
        items = [(new_of.get(id(name), name), value) for name, value in names.items()]
        names.clear()  # to keep the order
        names.update(items)
