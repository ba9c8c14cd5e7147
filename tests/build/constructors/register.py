"""Where constructors are registered by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

CONSTRUCTORS: dict[str, Callable[[], nn.Module]] = {}


def constructor(make: Callable[[Any], None]) -> Callable[[Any], None]:
    """Register a module whose constructor is ``make``."""

    class Constructed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            make(self)

    CONSTRUCTORS[make.__name__] = Constructed
    return make


def of(name: str) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    def register(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        CONSTRUCTORS[name] = factory
        return factory

    return register
