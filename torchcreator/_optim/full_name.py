"""The full name of a parameter that an optimizer holds, found when an error needs it."""

from __future__ import annotations

import gc

import torch
from torch import nn


def full_name(parameter: torch.Tensor, known: str) -> str:
    """Return the dotted name of a parameter in the outermost live module that has it.

    An optimizer knows no names, and a variable only the one it was given. This looks at every
    live object, so it is for errors.

    Args:
        parameter: The parameter.
        known: The name to return where no module has the parameter, or none by a longer name.
    """
    modules = [o for o in gc.get_objects() if issubclass(type(o), nn.Module)]
    above = {
        id(child): (name, module)
        for module in modules
        for name, child in module.__dict__.get("_modules", {}).items()
        if child is not None
    }
    for owner in modules:
        for local, held in owner.__dict__.get("_parameters", {}).items():
            if held is parameter:
                return max(known, _climbed(owner, local, above), key=len)
    return known


def _climbed(module: nn.Module, name: str, above: dict[int, tuple[str, nn.Module]]) -> str:
    """Return ``name`` with the names of the modules above it; a cycle of modules ends it."""
    passed = set()
    while id(module) in above and id(module) not in passed:
        passed.add(id(module))
        local, module = above[id(module)]
        name = f"{local}.{name}"
    return name
