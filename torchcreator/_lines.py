"""The line of the user's code that an operation came from."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple, TypeAlias

import torch

_STANDARD = sysconfig.get_paths()["stdlib"]
_OURS_AND_TORCHS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


Place: TypeAlias = tuple[CodeType, int]
"""Some code, and an instruction in it: a line, as long as nobody asks for its number."""


class Line(NamedTuple):
    """A line of code; its number is looked up when it is asked for."""

    code: CodeType
    instruction: int

    @property
    def file(self) -> str:
        """The file that it is in."""
        return self.code.co_filename

    @property
    def number(self) -> int:
        """Its number in that file."""
        for start, end, number in self.code.co_lines():
            if start <= self.instruction < end and number is not None:
                return number
        return self.code.co_firstlineno

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


class _Libraries(dict[str, bool]):
    """Whether a file is torch's, Python's or this library's; a hit costs no Python call."""

    def __missing__(self, file: str) -> bool:
        known = self[file] = file.startswith(_OURS_AND_TORCHS) or (
            file.startswith(_STANDARD) and "site-packages" not in file
        )
        return known


_is_library = _Libraries()
_DEPTH = 5  # so many calls of this library, at the least, lie between a logged call and its line


def user_place() -> Place:
    """Return the innermost place on the stack that is not torch's, Python's or this library's."""
    frame: FrameType = sys._getframe(_DEPTH)
    code = frame.f_code
    while _is_library[code.co_filename] and frame.f_back is not None:
        frame = frame.f_back
        code = frame.f_code
    return code, frame.f_lasti
