"""What the demo can be asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The demo's arguments, read and checked."""

    world_size: int = 2
    epochs: int = 20
    device: str = "cpu"
    seed: int = 0
    html: str | None = None
