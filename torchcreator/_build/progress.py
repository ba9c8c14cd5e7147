"""Bars on the terminal for what takes a while; nothing where nobody would see them."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch.distributed as dist

PATIENCE = 1.0
"""Seconds that something may take before a bar shows how far it is."""


class Bar(Protocol):
    """A bar on standard error."""

    def advance(self, steps: int = 1) -> None:
        """Move it on."""

    def close(self) -> None:
        """Leave the terminal to others."""


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how far a block is, if it takes longer than `PATIENCE` and somebody is looking.

    Nobody is where standard error is no terminal, on all ranks but the first, under another bar,
    and where neither rich nor tqdm is installed.

    Args:
        title: What stands before the bar.
        total: How many steps there are.

    Yields:
        What to call after each step.
    """
    if not is_seen():
        yield _nothing
        return
    late = _Late(title, total)
    try:
        yield late.advance
    finally:
        late.close()


def is_seen() -> bool:
    """Return whether a bar would be seen: standard error is a terminal, and this the first rank."""
    try:
        seen = sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
    return seen and not (dist.is_available() and dist.is_initialized() and dist.get_rank() > 0)


def maker() -> Callable[[str, int], Bar] | None:
    """Return what draws a bar, of whichever package is installed; None if none is."""
    for package, draws in (("rich.progress", _RichBar), ("tqdm", _TqdmBar)):
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        return draws
    return None


def _nothing() -> None:
    pass


class _Late:
    """A bar that is drawn once its time has come."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._due = time.monotonic() + PATIENCE
        self._bar: Bar | None = None

    def advance(self) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.advance()
        elif time.monotonic() >= self._due:
            self._due = float("inf")
            draws = None if _showing else maker()
            if draws is not None:
                self._bar = draws(self._title, self._total)
                self._bar.advance(self._done)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


_showing: list[Bar] = []
"""The bars on the terminal: two at once would overwrite each other."""


class _RichBar:
    """A bar drawn by rich."""

    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        # What is printed meanwhile goes above the bar; but not what is sent to a file or a pipe.
        self._bar = Progress(console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
        self._task = self._bar.add_task(title, total=total)
        self._bar.start()
        _showing.append(self)

    def advance(self, steps: int = 1) -> None:
        self._bar.advance(self._task, steps)

    def close(self) -> None:
        _showing.remove(self)
        self._bar.stop()


class _TqdmBar:
    """A bar drawn by tqdm."""

    def __init__(self, title: str, total: int) -> None:
        self._bar: Any = importlib.import_module("tqdm").tqdm(desc=title, total=total)
        _showing.append(self)

    def advance(self, steps: int = 1) -> None:
        self._bar.update(steps)

    def close(self) -> None:
        _showing.remove(self)
        self._bar.close()
