"""The columns of an inventory as words, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torchcreator.creators._changes import in_words
from torchcreator.report._rows import Row

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "name": lambda row: row.name,
    "shape": lambda row: "?" if row.shape is None else "x".join(map(str, row.shape)) or "scalar",
    "dtype": lambda row: in_words("dtype", row.dtype),
    "device": lambda row: str(row.device),
    "bytes": lambda row: str(row.nbytes),
    "trainable": lambda row: "yes" if row.trainable else "no",
    "constraint": lambda row: "" if row.constraint is None else in_words("", row.constraint),
    "synchronization": lambda row: row.synchronization.name,
    "aggregation": lambda row: row.aggregation.name,
    "placements": lambda row: row.placements or "",
    "ties": lambda row: ", ".join(row.ties),
    "tags": lambda row: ", ".join(f"{key}={in_words('', tag)}" for key, tag in row.tags.items()),
    "creators": lambda row: "; ".join(map(str, row.decisions)),
}
"""Each column's text, by its heading."""

_DEFAULTS = {"synchronization": "AUTO", "aggregation": "NONE"}


def telling(rows: list[dict[str, str]]) -> list[str]:
    """Return the headings of the columns in which some row says more than the default."""
    always = ("name", "shape", "dtype", "device", "bytes", "trainable")
    return [
        heading
        for heading in COLUMNS
        if heading in always or any(row[heading] != _DEFAULTS.get(heading, "") for row in rows)
    ]


def words(row: Row) -> dict[str, str]:
    """Return a row's columns as text that a terminal shows as it is."""
    return {heading: printable(text(row)) for heading, text in COLUMNS.items()}


def printable(text: str) -> str:
    """Return text in which what would move or colour a terminal is written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(nbytes: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    amount, unit = float(nbytes), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{nbytes} B" if unit == 0 else f"{amount:.{0 if amount >= 100 else 1}f} {_UNITS[unit]}"


def aligned(rows: list[list[str]], right: tuple[int, ...]) -> str:
    """Return rows of cells as lines with the columns below each other.

    Args:
        rows: The cells; every row has as many.
        right: The columns that end below each other, numbers say.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
