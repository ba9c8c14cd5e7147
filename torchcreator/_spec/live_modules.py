"""Find the full names of variables that a plain scope knows by their local names only."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from torch import nn

from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.table import TABLE, SpecTable

Key = TypeVar("Key", bound=Hashable)


def full_names(
    wanted: Mapping[Key, tuple[nn.Module | None, str | None, VariableSpec | None]],
) -> dict[Key, str]:
    """Return the full name of each variable that a live module holds.

    A constructor does not know what its module will be part of, so this looks at the modules
    there are now; of several places it takes the shortest name.

    Args:
        wanted: The owner of each variable, its name in it, and its declaration, as far as known.
    """
    if not wanted:
        return {}
    modules = _live_modules()
    owned = {id(owner) for owner, _, _ in wanted.values() if owner is not None}
    declared = {id(d) for _, _, d in wanted.values() if d is not None}
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in modules:
        table: SpecTable | None = module.__dict__.get(TABLE)
        for local, declaration in table.declared.items() if table is not None else ():
            if id(declaration) in declared:
                places.setdefault(id(declaration), []).append((module, local))
    holders = {id(module) for several in places.values() for module, _ in several}
    paths = _paths(modules, owned | holders)
    found: dict[Key, str] = {}
    for key, (owner, name, declared_as) in wanted.items():
        known = [] if owner is None or name is None else [(owner, name)]
        names = [
            f"{paths[id(module)]}.{local}".lstrip(".")
            for module, local in known or places.get(id(declared_as), [])
            if id(module) in paths
        ]
        if names:
            found[key] = min(names, key=_length)
    return found


def _length(name: str) -> tuple[int, str]:
    return name.count("."), name


def _live_modules() -> list[nn.Module]:
    kinds = {nn.Module}
    pending = [nn.Module]
    while pending:
        new = set(pending.pop().__subclasses__()) - kinds
        kinds |= new
        pending += new
    # By type, not isinstance: that asks the object for its __class__, and proxies may answer
    # anything. It is also the faster one, over every object there is.
    found: list[Any] = [candidate for candidate in gc.get_objects() if type(candidate) in kinds]
    return [module for module in found if "_modules" in module.__dict__]


def _paths(modules: list[nn.Module], wanted: set[int]) -> dict[int, str]:
    """Return the path from its root to each wanted module."""
    parents: dict[int, list[nn.Module]] = {}
    for module in modules:
        for child in module._modules.values():
            if child is not None:
                parents.setdefault(id(child), []).append(module)
    roots: dict[int, nn.Module] = {}
    pending = [module for module in modules if id(module) in wanted]
    seen = {id(module) for module in pending}
    while pending:
        module = pending.pop()
        above = parents.get(id(module), [])
        if not above:
            roots[id(module)] = module
        pending += (parent for parent in above if id(parent) not in seen)
        seen.update(map(id, above))
    paths: dict[int, str] = {}
    for root in roots.values():
        for path, module in root.named_modules(remove_duplicate=False):
            paths[id(module)] = min(path, paths.get(id(module), path), key=_length)
    return paths
