"""What torch's own modules are, and what it wraps around others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

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


class Tables:
    """What some modules have registered, to be put back.

    Args:
        modules: The modules.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        self._held = [
            (held, {**held})
            for module in self._modules
            for held in (module._parameters, module._buffers, module._modules)
            if type(held) is dict
        ]
        self._first_hook: int = RemovableHandle.next_id
        self._values: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep_buffers(self) -> None:
        """Keep the values of buffers too, which are about to be written."""
        buffers = [buffer for module in self._modules for buffer in module.buffers(recurse=False)]
        self._values = [(buffer, buffer.clone()) for buffer in buffers]

    def restore(self) -> None:
        """Let the modules have what they had, without the hooks that came since."""
        held: Any
        for held, before in self._held:
            held.clear()
            held.update(before)
        for module in self._modules:
            for name, hooks in vars(module).items():
                if (
                    name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
                    and hooks
                ):
                    for number in [n for n in hooks if n >= self._first_hook]:
                        del hooks[number]
        with torch.no_grad():
            for buffer, value in self._values:
                buffer.copy_(value)
