"""Whether some module already holds a parameter: then it is tied or moved, not made."""

from __future__ import annotations

import gc
import sys
import weakref

from torch import nn

from torchcreator._root import Root

_SETATTR = nn.Module.__setattr__.__code__


def references(parameter: nn.Parameter, frames: int) -> tuple[bool, int]:
    """Return how a parameter came to be registered, and how often it is referred to.

    Args:
        parameter: The parameter being registered.
        frames: How many frames up ``register_parameter`` was called.

    Returns:
        Whether that was by ``module.name = parameter``, and the reference count here. Whoever
        made the parameter in the same expression gives the smallest count there is.
    """
    return sys._getframe(frames).f_code is _SETATTR, sys.getrefcount(parameter)


def held(scope_root: Root, parameter: nn.Parameter) -> bool:
    """Return whether a live module holds ``parameter``, by one walk per outermost scope."""
    if scope_root.owners is None:
        scope_root.owners = _walk()
    owner = scope_root.owners.get(id(parameter))
    if owner is None:
        return False
    module = owner[0]()
    return module is not None and module._parameters.get(owner[1]) is parameter


def note(scope_root: Root, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Remember a registration that came after the walk."""
    if scope_root.owners is not None:
        scope_root.owners[id(parameter)] = (weakref.ref(module), name)


def _walk() -> dict[int, tuple[weakref.ref[nn.Module], str]]:
    owners: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
    for module in gc.get_objects():
        # Not isinstance: that asks the object for its __class__, and proxies may answer anything.
        if issubclass(type(module), nn.Module):
            for name, parameter in module.__dict__.get("_parameters", {}).items():
                owners[id(parameter)] = (weakref.ref(module), name)
    return owners
