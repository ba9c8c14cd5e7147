"""What the command can be asked for."""

from __future__ import annotations

from dataclasses import dataclass


class UnusableError(Exception):
    """One line about what the command cannot use."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


@dataclass(frozen=True)
class Options:
    """The command's arguments.

    Attributes:
        path: Where the factory is.
        arguments: Its arguments as JSON, or None.
        depth: How many levels of modules the totals list.
        filter: A glob that names have to match, or None.
        sort: The column to order by, or None.
        reverse: Whether the order is turned round.
        json: Whether to print JSON.
        html: The page to write, or None.
        against: The earlier document to compare with, or None.
    """

    path: str
    arguments: str | None
    depth: int
    filter: str | None
    sort: str | None
    reverse: bool
    json: bool
    html: str | None
    against: str | None
