"""An inventory as text: the columns as words, the table, the totals, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from torchcreator.creators._changes import in_words
from torchcreator.report._rows import Row

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "name": lambda row: row.name,
    "shape": lambda row: _shape(row.shape),
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


def table(rows: Sequence[Row], totals: Mapping[str, Any]) -> str:
    """Return rows as a plain table with their totals below; an empty cell is a dash."""
    headings = list(COLUMNS)
    cells = [[row[heading] or "-" for heading in headings] for row in map(words, rows)]
    lines = aligned([headings, *cells], right=(headings.index("bytes"),))
    return f"{lines}\n\n{sums(rows, totals)}"


def sums(rows: Sequence[Row], totals: Mapping[str, Any]) -> str:
    """Return the totals of rows, by module, dtype and trainability.

    Args:
        rows: The variables.
        totals: What `Inventory.totals` says of them.
    """
    lines = [["", "variables", "elements", "bytes", ""], _line("total", totals)]
    for entry in totals["by_module"][1:]:
        indent = "  " * entry["module"].count(".")
        lines.append(_line(f"{indent}{printable(entry['module'])}", entry))
    lines += [_line(entry["dtype"], entry) for entry in totals["by_dtype"]]
    lines += [
        _line("trainable" if entry["trainable"] else "not trainable", entry)
        for entry in totals["by_trainable"]
    ]
    text = aligned(lines, right=(1, 2, 3, 4))
    if any(row.placements for row in rows):
        held = sum(row.local_nbytes for row in rows)
        text += f"\nthis rank has {size(held)} of the {size(totals['bytes'])}"
    if totals["buffers"]:
        text += f"\nand {totals['buffers']} buffers, {size(totals['buffer_bytes'])}"
    return text


def _line(title: str, entry: Mapping[str, Any]) -> list[str]:
    numbers = [str(entry[key]) for key in ("variables", "elements", "bytes")]
    return [title, *numbers, size(entry["bytes"])]


MOST_ROWS = 500
"""More than these make a notebook slow; the page of `Inventory.html` shows all."""


def notebook_table(rows: Sequence[Row], title: str) -> str:
    """Return plain HTML, in a notebook's own colours, of the columns that say something."""
    told = [words(row) for row in rows]
    headings = telling(told)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr>{''.join(_cell(heading, row[heading]) for heading in headings)}</tr>"
        for row in told[:MOST_ROWS]
    )
    left_out = len(told) - MOST_ROWS
    more = f"<p>and {left_out} more</p>" if left_out > 0 else ""
    return (
        f"<table><caption>{escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def _cell(heading: str, text: str) -> str:
    align = "right" if heading == "bytes" else "left"
    return f'<td style="text-align: {align}">{escape(text)}</td>'


_LEFT_OUT = ("name", "module", "elements", "local_bytes", "declared", "creators")
"""What follows from other columns, and how it came about."""


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return a line for each variable that was added, removed or changed, and one that sums up.

    Args:
        before: The document of the one model.
        after: The document of the other.
    """
    old = {variable["name"]: variable for variable in before["variables"]}
    new = {variable["name"]: variable for variable in after["variables"]}
    lines = [f"- {_told(old[name])}" for name in old if name not in new]
    lines += [f"+ {_told(new[name])}" for name in new if name not in old]
    for name in new:
        changes = list(_changes(old[name], new[name])) if name in old else []
        if changes:
            lines.append(f"~ {printable(name)}  {', '.join(changes)}")
    counts = [sum(line.startswith(sign) for line in lines) for sign in "+-~"]
    was, now = (sum(v["bytes"] for v in found.values()) for found in (old, new))
    summary = "{} added, {} removed, {} changed".format(*counts)
    return "\n".join([*lines, f"{summary}; {size(was)} -> {size(now)}"])


def _told(variable: Mapping[str, Any]) -> str:
    return f"{printable(variable['name'])}  {_shape(variable['shape'])}  {variable['dtype']}"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for column in new:
        if column in _LEFT_OUT or column not in old or old[column] == new[column]:
            continue
        show = _shape if column == "shape" else str
        yield printable(f"{column} {show(old[column])} -> {show(new[column])}")


def _shape(shape: Sequence[int] | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"
