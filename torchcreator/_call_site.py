"""The line of the user's code that an operation came from, or a scope.

Nothing in here needs torch to be loaded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple, TypeAlias

_STANDARD = str(Path(os.__file__).parent)
_OURS = f"{Path(__file__).parent}{os.sep}"
_BETWEEN = (_OURS, contextlib.__file__)
"""Files that stand between a scope and the line that opened it."""


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


@functools.cache
def _torchs() -> str:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return f"{Path(spec.origin).parent}{os.sep}"


class _Libraries(dict[str, bool]):
    """Whether a file is torch's, Python's or this library's; a hit costs no Python call."""

    def __missing__(self, file: str) -> bool:
        known = self[file] = (
            file.startswith((_OURS, _torchs()))
            or file.endswith(f"{os.sep}typing_extensions.py")  # whose `deprecated` torch calls
            or (file.startswith(_STANDARD) and "site-packages" not in file)
        )
        return known


_is_library = _Libraries()
_DEPTH = 5  # so many calls of this library, at the least, lie between a logged call and its line


def user_place(last: Place | None = None) -> Place:
    """Return the innermost place on the stack that is not torch's, Python's or this library's.

    Args:
        last: Is returned where it is the same.
    """
    frame: FrameType = sys._getframe(_DEPTH)
    code = frame.f_code
    while _is_library[code.co_filename] and (outward := frame.f_back) is not None:
        frame = outward
        code = frame.f_code
    instruction = frame.f_lasti
    if last is not None and last[0] is code and last[1] == instruction:
        return last
    return code, instruction


def raised_at(error: BaseException) -> Line:
    """Return the innermost line that an error passed through, of the same kind of code."""
    found, entry = None, error.__traceback__
    while entry is not None:
        code = entry.tb_frame.f_code
        if found is None or not _is_library[code.co_filename]:
            found = Line(code, entry.tb_lasti)
        entry = entry.tb_next
    assert found is not None
    return found


def opener(frame: FrameType, between: tuple[str, ...] = _BETWEEN) -> tuple[str, int]:
    """Return the file and line of the first frame that is in none of the files ``between``."""
    while frame.f_code.co_filename.startswith(between) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def place(file: str, line: int) -> str:
    """Return a line of a file as a message shows it: from the working directory, if it is there."""
    path = Path(file)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{line}"


def warn(what: str, why: str, instead: str) -> None:
    """Warn in the three parts of an error, at the user's line."""
    file, line = opener(sys._getframe(1), (*_BETWEEN, _torchs()))
    warnings.warn_explicit(f"{what}\n{why}\n{instead}", UserWarning, file, line)
