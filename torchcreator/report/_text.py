"""An inventory as text: the columns as words, the table, and the totals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchcreator.creators._changes import in_words
from torchcreator.report._folding import folded
from torchcreator.report._rows import Row

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "name": lambda row: row.name,
    "shape": lambda row: shape_in_words(row.shape),
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


def shape_in_words(shape: Sequence[int] | None) -> str:
    """Return a shape as ``3x2``."""
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


@dataclass(frozen=True)
class Line:
    """One line of a table: a variable, or what all blocks of a repeated kind have.

    Attributes:
        name: The variable's, or ``layers.0–79.weight``.
        rows: The variables, as many as there are blocks.
    """

    name: str
    rows: Sequence[Row]

    @property
    def nbytes(self) -> int:
        """The bytes of all of them."""
        return sum(row.nbytes for row in self.rows)

    @property
    def elements(self) -> int:
        """The elements of all of them."""
        return sum(row.elements for row in self.rows)

    def cells(self) -> dict[str, str]:
        """Return the columns as words; sizes are those of all blocks together."""
        count = f"{len(self.rows)} ×" if len(self.rows) > 1 else ""
        cells = words(self.rows[0])
        return (
            {"name": printable(self.name), "count": count}
            | cells
            | {
                "name": printable(self.name),
                "bytes": f"{self.nbytes:,}",
            }
        )


def lines_of(rows: Sequence[Row], *, every: bool = False) -> list[Line]:
    """Return the lines of a table: repeated blocks are one, unless every variable has its own."""
    if every:
        return [Line(row.name, [row]) for row in rows]
    return [
        Line(name, [rows[position] for position in at])
        for name, at in folded([row.name for row in rows], [_facts(row) for row in rows])
    ]


def _facts(row: Row) -> tuple[str, ...]:
    """Return what a line says of a variable besides its name."""
    return (row.module_type, *(text(row) for heading, text in COLUMNS.items() if heading != "name"))


def telling(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the headings of the columns in which some line says more than the default."""
    always = ("name", "shape", "dtype", "device", "bytes", "trainable")
    return [
        heading
        for heading in (cells[0] if cells else COLUMNS)
        if heading in always or any(line[heading] != _DEFAULTS.get(heading, "") for line in cells)
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


def table(lines: Sequence[Line], totals: Mapping[str, Any]) -> str:
    """Return lines as a plain table with their totals below; an empty cell is a dash."""
    cells = [line.cells() for line in lines]
    folds = any(line["count"] for line in cells)
    headings = ["name", *(["count"] if folds else []), *(h for h in COLUMNS if h != "name")]
    right = tuple(headings.index(heading) for heading in ("count", "bytes") if heading in headings)
    body = [[line[heading] or "-" for heading in headings] for line in cells]
    return f"{aligned([headings, *body], right=right)}\n\n{sums(lines, totals)}"


def sums(lines: Sequence[Line], totals: Mapping[str, Any]) -> str:
    """Return the totals of lines, then by module, by dtype and by trainability.

    Args:
        lines: What they are the totals of.
        totals: What `Inventory.totals` says of them.
    """
    text = aligned(sums_of(totals), right=(1, 2, 3, 4))
    rows = [row for line in lines for row in line.rows]
    if any(row.placements for row in rows):
        held = sum(row.local_nbytes for row in rows)
        text += f"\n\nthis rank has {size(held)} of the {size(totals['bytes'])}"
    if totals["buffers"]:
        text += f"\n\nand {totals['buffers']} buffers, {size(totals['buffer_bytes'])}"
    return text


def sums_of(totals: Mapping[str, Any]) -> list[list[str]]:
    """Return the totals as rows of cells: a heading before each group, and a blank one."""
    groups = {
        "module": _by_module(totals["by_module"][1:]),
        "dtype": [_sum(entry["dtype"], [entry]) for entry in totals["by_dtype"]],
        "trainable": [
            _sum("trainable" if entry["trainable"] else "not trainable", [entry])
            for entry in totals["by_trainable"]
        ],
    }
    rows = [["", "variables", "elements", "bytes", ""], _sum("total", [totals])]
    for heading, group in groups.items():
        rows += [[""] * 5, [f"by {heading}", *[""] * 4], *group] if group else []
    return rows


def _by_module(entries: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    facts = [(entry["variables"], entry["elements"], entry["bytes"]) for entry in entries]
    return [
        _sum("  " * name.count(".") + printable(name), [entries[position] for position in at])
        for name, at in folded([entry["module"] for entry in entries], facts)
    ]


def _sum(title: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    totals = [sum(entry[key] for entry in entries) for key in ("variables", "elements", "bytes")]
    return [title, *(f"{total:,}" for total in totals), size(totals[-1])]
