"""The modules that hold an object, and the full names that it has in them.

They are found from the object upwards, by `gc.get_referrers`: all that lives, as `gc.get_objects`
gives it, includes tuples that other threads are still making, which then fail there.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import TABLE, live_tables
from torchcreator._torch.modules import joined

Key = TypeVar("Key", bound=Hashable)
_AT_ONCE = 16
"""How many objects to look for in one walk, which takes the longer the more there are."""


def referrers(objects: Sequence[object]) -> list[Any]:
    """Return what refers to one of some objects, but for what is here for the question."""
    asked = tuple(objects)  # Python 3.13 finds the call's own arguments too
    own = _Same(asked, objects)
    return [holder for holder in gc.get_referrers(*asked) if holder not in own]


class _Same:
    """Objects told apart by identity, for ``in``: some do not compare, some compare anything."""

    def __init__(self, *objects: object) -> None:
        self._ids = frozenset(map(id, objects))

    def __contains__(self, value: object) -> bool:
        return id(value) in self._ids


def owners(key: str, values: Sequence[object]) -> list[nn.Module]:
    """Return the modules that have one of some objects in their ``__dict__`` under a key."""
    wanted = _Same(*values)
    # Not isinstance: that asks an object for its __class__, and proxies may answer anything.
    namespaces = [
        holder
        for holder in referrers(values)
        if issubclass(type(holder), nn.Module)
        or (type(holder) is dict and holder.get(key) in wanted)
    ]
    found = {id(m): m for m in namespaces if issubclass(type(m), nn.Module)}
    namespaces = [holder for holder in namespaces if type(holder) is dict]
    if namespaces:  # a module whose __dict__ was asked for: up to Python 3.12, every module
        found |= {id(m): m for m in referrers(namespaces) if issubclass(type(m), nn.Module)}
    return [module for module in found.values() if module.__dict__.get(key) in wanted]


def holders(parameters: Sequence[torch.Tensor]) -> list[nn.Module]:
    """Return the modules that have one of some parameters."""
    return _holding("_parameters", parameters, torch.Tensor)


def _holding(key: str, values: Sequence[object], kind: type) -> list[nn.Module]:
    """Return the modules that have a value in their dictionary called ``key``."""
    wanted = _Same(*values)
    dictionaries = [
        holder
        for holder in referrers(values)
        if issubclass(type(holder), dict)
        and any(value in wanted for value in [*holder.values()])
        and all(value is None or issubclass(type(value), kind) for value in [*holder.values()])
    ]
    return owners(key, dictionaries) if dictionaries else []


def full_name(parameter: torch.Tensor, known: str) -> str:
    """Return the dotted name of a parameter in the outermost live module that has it.

    An optimizer knows no names, and a variable only the one it was given. This walks over every
    live object several times, so it is for errors.

    Args:
        parameter: The parameter.
        known: The name to return where no module has the parameter, or none by a longer name.
    """
    modules = holders([parameter])
    paths = _paths(modules)
    names = [
        joined(paths[id(module)], local)
        for module in modules
        for local, held in [*module._parameters.items()]
        if held is parameter
    ]
    return max(known, min(names, key=_length, default=known), key=len)


def full_names(
    wanted: Mapping[Key, tuple[nn.Module | None, str | None, VariableSpec | None]],
) -> dict[Key, str]:
    """Return the full name of each variable that a live module holds.

    A constructor does not know what its module will be part of, so this looks at the modules
    there are now; of several places it takes the shortest name.

    Args:
        wanted: The owner of each variable, its name in it, and its declaration, as far as known.
    """
    declared = {id(d) for _, _, d in wanted.values() if d is not None}
    places: dict[int, list[tuple[Any, str]]] = {}
    for table in live_tables():
        for local, declaration in [*table.declared.items()]:
            if id(declaration) in declared:
                places.setdefault(id(declaration), []).append((table, local))
    of_each = {
        key: places.get(id(declaration), []) if owner is None or name is None else [(owner, name)]
        for key, (owner, name, declaration) in wanted.items()
    }
    paths = _paths_of_all({id(h): h for several in of_each.values() for h, _ in several})
    found: dict[Key, str] = {}
    for key, several in of_each.items():
        names = [joined(paths[id(h)], local) for h, local in several if id(h) in paths]
        if names:
            found[key] = min(names, key=_length)
    return found


def _length(name: str) -> tuple[int, str]:
    return name.count("."), name


def _paths_of_all(wanted: dict[int, Any]) -> dict[int, str]:
    """Return the path of each module, or of the module of each table, from its root.

    A few are followed upwards; most of the others are found below the same roots.
    """
    paths: dict[int, str] = {}
    while wanted:
        some = [wanted.pop(number) for number in [*wanted][:_AT_ONCE]]
        tables = [holder for holder in some if not isinstance(holder, nn.Module)]
        modules = [holder for holder in some if isinstance(holder, nn.Module)]
        paths |= _paths(modules + (owners(TABLE, tables) if tables else []))
        wanted = {number: holder for number, holder in wanted.items() if number not in paths}
    return paths


def _paths(modules: list[nn.Module]) -> dict[int, str]:
    """Return the paths from their roots to some modules, and to all others below these roots."""
    seen = {id(module): module for module in modules}
    roots: list[nn.Module] = []
    pending = modules
    while pending:
        above = _holding("_modules", pending, nn.Module)
        below = _Same(*(child for parent in above for child in [*parent._modules.values()]))
        roots += (module for module in pending if module not in below)
        pending = [parent for parent in above if id(parent) not in seen]
        seen |= {id(parent): parent for parent in pending}
    paths: dict[int, str] = {}
    for root in roots or [*seen.values()][-1:]:  # modules in a circle have no root
        for number, path in _below(root).items():
            paths[number] = min(path, paths.get(number, path), key=_length)
    return paths


def _below(root: nn.Module) -> dict[int, str]:
    """Return the shortest path to each module, and to each module's table, by its id."""
    paths: dict[int, str] = {}
    level: dict[int, tuple[nn.Module, str]] = {id(root): (root, "")}
    while level:
        paths |= {number: path for number, (_, path) in level.items()}
        below: dict[int, tuple[nn.Module, str]] = {}
        for module, path in level.values():
            paths[id(module.__dict__.get(TABLE))] = path
            for local, child in [*module._modules.items()]:
                if child is not None and id(child) not in paths:
                    below.setdefault(id(child), (child, joined(path, local)))
        level = below
    return paths
