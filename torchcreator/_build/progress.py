"""Bars on the terminal for what takes a while, drawn by tqdm; none where nobody would see them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch.distributed as dist

PATIENCE = 1.0
"""Seconds that something may take before a bar shows how far it is."""

current_bar: ContextVar[Any | None] = ContextVar("current_bar", default=None)
"""The innermost bar of this thread, tqdm's, also while it is not shown yet."""


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Show how far a block is, if it takes longer than `PATIENCE` and somebody is looking.

    Nobody is where standard error is no terminal, on all ranks but the first, and where tqdm is
    not installed.

    Args:
        title: What stands before the bar.
        total: How many steps there are.

    Yields:
        What to call after each step.
    """
    tqdm = maker() if is_seen() else None
    if tqdm is None:
        yield _nothing
        return
    with tqdm(desc=title, total=total, delay=PATIENCE, leave=None) as shown:
        token = current_bar.set(shown)
        try:
            yield shown.update
        finally:
            current_bar.reset(token)


def is_seen() -> bool:
    """Return whether a bar would be seen: standard error is a terminal, and this the first rank."""
    try:
        seen = sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
    return seen and not (dist.is_available() and dist.is_initialized() and dist.get_rank() > 0)


def maker() -> Any | None:
    """Return tqdm's bar, but without the thread that watches over all bars; None without tqdm."""
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
    return type("Bar", (tqdm,), {"monitor_interval": 0})


def _nothing() -> None:
    pass
