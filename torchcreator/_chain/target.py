"""The parameter that already exists and is to be filled, instead of a new one being made.

A stock module's own parameter and a recorded one are the same case for the end of the chain.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from torchcreator._recorder.boxes import Region
    from torchcreator._spec.spec import VariableSpec


class Asked(NamedTuple):
    """What the end of the chain asks of a parameter; None leaves it as it is."""

    shape: torch.Size | None
    dtype: torch.dtype | None
    device: torch.device | None
    trainable: bool


class Target(Protocol):
    """A parameter that exists, waiting for its creators' decision.

    Attributes:
        module: The module that owns it.
        name: Its name: the local one in a scope, the full one in a build.
        parameter: The parameter itself, with the shape, dtype and device its module gave it.
        value: Its own value, as creators receive it in ``initial_value``; None where the module
            has yet to give it one.
        region: The part of it that is to be made, where others have the rest of it: this rank's
            shard. None for a whole one.
        handed: What its creators received, in the order of a spec, where `default.adopt` may take
            the parameter as it is when that comes back; else None.
        device: The device that its creators received with that.
        made: What the end of the chain made of it, once it has.
        spec: What it was declared to be, once it was.
    """

    module: nn.Module | None
    name: str
    parameter: nn.Parameter
    made: nn.Parameter | None
    spec: VariableSpec | None

    @property
    def value(self) -> Any: ...

    @property
    def region(self) -> Region | None: ...

    @property
    def handed(self) -> tuple[Any, ...] | None: ...

    @property
    def device(self) -> torch.device | None: ...

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return the parameter with ``data`` in it, or with its own value where that is None.

        Args:
            data: The value, or its ``region`` where that is not None.
            asked: What else is asked of it.
        """
        ...


NO_TAGS: dict[str, Any] = {}
"""What `Target.handed` has where its creators received None as ``tags``."""

target: ContextVar[Target | None] = ContextVar("torchcreator_target", default=None)
current_target, set_target, reset_target = target.get, target.set, target.reset
"""As functions, as in `open_scopes`."""


def waiting_target() -> Target | None:
    """Return the target that waits here, unless the chain has filled it already."""
    waiting = target.get()
    return None if waiting is None or waiting.made is not None else waiting
