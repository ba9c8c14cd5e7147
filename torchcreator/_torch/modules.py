"""What torch's own modules are, what it wraps around others, and how a model names its parts."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

Module = TypeVar("Module", bound=nn.Module)

LOADING: CodeType = nn.Module._load_from_state_dict.__code__
"""The code that registers parameters when a state dict is loaded with ``assign=True``."""

LOADS: frozenset[CodeType] = frozenset({nn.Module.load_state_dict.__code__, LOADING})
"""The code under which a state dict is loaded, by a module of torch's or by a class of its own."""

_CHECKPOINTED = "_checkpoint_wrapped_module."
WRAPPINGS = ("_orig_mod.", _CHECKPOINTED)
"""What torch.compile and checkpointing add to the full names of what they wrap."""


def joined(path: str, local: str) -> str:
    """Return the full name of what the module at ``path`` calls ``local``."""
    return f"{path}.{local}" if path else local


def paths(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return every path to every module of a model, in the order of ``named_modules``.

    No path goes through a module twice: modules in a circle would have paths without end.
    """
    found: list[tuple[str, nn.Module]] = []
    pending: list[tuple[str, nn.Module, tuple[int, ...]]] = [("", model, ())]
    while pending:
        path, module, above = pending.pop()
        found.append((path, module))
        if module._modules:
            above = (*above, id(module))
            pending += [
                (joined(path, local), child, above)
                for local, child in [*module._modules.items()][::-1]
                if child is not None and id(child) not in above
            ]
    return found


def without_wrappings(name: str) -> str:
    """Return a full name without the parts that torch's own wrappers add to it."""
    for wrapping in WRAPPINGS:
        name = name.replace(wrapping, "")
    return name


def saved_as(name: str) -> str:
    """Return what a full name is in a ``state_dict``: checkpointing leaves its part out there."""
    return name.replace(_CHECKPOINTED, "")


def uncompiled(model: nn.Module) -> nn.Module:
    """Return the module that torch.compile has wrapped, or the module itself."""
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


def forward_pre_hooks(model: nn.Module) -> dict[int, Callable[..., object]]:
    """Return the hooks that run before a module's forward, in the dictionary that holds them."""
    hooks: dict[int, Callable[..., object]] = model._forward_pre_hooks
    return hooks


def is_normalisation(module: nn.Module) -> bool:
    """Return whether a module keeps running statistics: batch and instance normalisation do."""
    return isinstance(module, _NormBase)
