"""What torch's own modules are, and what it wraps around others."""

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

WRAPPINGS = ("_orig_mod.", "_checkpoint_wrapped_module.")
"""What torch.compile and checkpointing add to the full names of what they wrap."""


def without_wrappings(name: str) -> str:
    """Return a full name without the parts that torch's own wrappers add to it."""
    for wrapping in WRAPPINGS:
        name = name.replace(wrapping, "")
    return name


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
