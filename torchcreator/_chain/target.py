"""The parameter that already exists and is to be filled, instead of a new one being made.

A stock module's own parameter and a recorded one are the same case for the default creator.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import nn

    from torchcreator._spec.spec import Declaration


Form: TypeAlias = "tuple[torch.Size | None, torch.dtype, torch.device]"
"""Shape, dtype and device; the shape of a lazy parameter is None."""


class Target(Protocol):
    """A parameter that exists, waiting for its creators' decision.

    Attributes:
        module: The module that owns it.
        name: Its name: the local one in a scope, the full one in a build.
        parameter: The parameter itself, with the shape, dtype and device its module gave it.
        made: What the default creator made of it, once it has.
        declaration: What it was declared as, once it was.
        form: Shape, dtype and device as its creators were handed them, where the default creator
            may take it as it is when they come back; else None.
    """

    module: nn.Module | None
    name: str
    parameter: nn.Parameter
    made: nn.Parameter | None
    declaration: Declaration | None

    @property
    def form(self) -> Form | None: ...

    def fill(
        self,
        data: torch.Tensor | None,
        *,
        shape: torch.Size | None,
        dtype: torch.dtype | None,
        device: torch.device | None,
        trainable: bool,
    ) -> nn.Parameter:
        """Return the parameter with ``data`` in it, or with its module's own value where None."""
        ...


target: ContextVar[Target | None] = ContextVar("torchcreator_target", default=None)


def target_of(module: nn.Module | None) -> Target | None:
    """Return the waiting target of a module, if there is one and nobody took it yet."""
    waiting = target.get()
    if waiting is None or waiting.made is not None or waiting.module is not module:
        return None
    return waiting


def set_aside(module: nn.Module | None, name: str | None) -> Token[Target | None] | None:
    """Keep a waiting target from another variable that a creator makes of the same module.

    Returns:
        What `target.reset` takes to let it wait again; None where nothing had to be kept.
    """
    waiting = target_of(module)
    return None if waiting is None or waiting.name == name else target.set(None)
