"""Whether some module already holds a parameter: then it is tied or moved, not made."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

from torch import nn

from torchcreator._chain.open_scopes import Root, current
from torchcreator._spec.table import SpecTable, copy_listeners

if TYPE_CHECKING:
    from torchcreator._chain.open_scopes import Owners


def held(root: Root, parameter: nn.Parameter) -> bool:
    """Return whether a live module holds ``parameter``, by one walk per outermost scope."""
    if root.owners is None:
        root.owners = _walk()
    owner = root.owners.get(id(parameter))
    if owner is None:
        return False
    holder = owner[0]()
    if holder is None:
        return False
    parameters = holder.parameters if isinstance(holder, SpecTable) else holder._parameters
    return parameters.get(owner[1]) is parameter


def note(root: Root, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Remember a registration that came after the walk."""
    if root.owners is not None:
        root.owners[id(parameter)] = (weakref.ref(module), name)


def _note_copies(original: SpecTable, copied: SpecTable) -> None:
    """Remember a deep copy's parameters, which nothing registered."""
    link = current.get()
    if link is not None and link.root.owners is not None:
        for name, parameter in copied.parameters.items():
            link.root.owners[id(parameter)] = (weakref.ref(copied), name)


copy_listeners.append(_note_copies)


def _walk() -> Owners:
    owners: Owners = {}
    for module in gc.get_objects():
        # Not isinstance: that asks the object for its __class__, and proxies may answer anything.
        if not issubclass(type(module), nn.Module):
            continue
        parameters = module.__dict__.get("_parameters")
        if isinstance(parameters, dict):  # a ScriptModule's makes its tensors as they are asked for
            for name, parameter in tuple(parameters.items()):  # other threads may add some
                owners[id(parameter)] = (weakref.ref(module), name)
    return owners
