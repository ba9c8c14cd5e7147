"""A tracer that reads variables, as debuggers and some coverage tools do."""

from __future__ import annotations

from types import FrameType
from typing import Any

LINE_BY_LINE = ("/tests/", "/torchcreator/", "/torch/nn/")


def reading(frame: FrameType, event: str, arg: object) -> Any:
    """Read a frame's variables, which up to Python 3.12 leaves a copy of them with it."""
    frame.f_locals  # noqa: B018
    return reading if any(part in frame.f_code.co_filename for part in LINE_BY_LINE) else None
