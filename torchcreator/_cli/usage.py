"""What the commands share: how they refuse, meet Ctrl-C and write pages."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchcreator.report import Inventory


class UnusableError(Exception):
    """One line about what a command cannot use."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


@contextmanager
def on_interrupt(action: signal.Handlers) -> Iterator[None]:
    """Let Ctrl-C do something else in a block.

    Raised in the middle of somebody's import, it can come out as any other error: there it may
    as well end the process.
    """
    before = signal.signal(signal.SIGINT, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def invocation() -> str:
    """Return how this program is started again from where the user stands."""
    if Path(sys.argv[0]).name == "torchcreator":
        return shlex.quote(sys.argv[0] if os.sep in sys.argv[0] else "torchcreator")
    return f"{shlex.quote(sys.executable)} -m torchcreator"


def write_page(inventory: Inventory, path: str, before: dict[str, Any] | None = None) -> None:
    """Write the page of an inventory.

    Raises:
        UnusableError: The file cannot be written.
    """
    try:
        inventory.html(path, before=before)
    except OSError as error:
        raise UnusableError(f"{path!r} cannot be written: {reason(error)}") from None


def reason(error: OSError) -> str:
    """Return what the system says."""
    return error.strerror or str(error)
