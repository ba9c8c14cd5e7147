"""What the modules of a finished model have registered, to be put back where creators fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


class Tables:
    """What some modules have registered, to be put back.

    Args:
        modules: The modules.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        self._held = [
            (module, module._parameters.copy(), module._buffers.copy(), module._modules.copy())
            for module in self._modules
            if not isinstance(module, torch.jit.ScriptModule)  # it has them in C++
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
        for module, *before in self._held:
            now = module._parameters, module._buffers, module._modules
            for held, had in zip(now, before, strict=True):
                held.clear()
                held.update(had)
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
