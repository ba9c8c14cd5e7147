"""An inventory on a terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchcreator.report._text import Line, printable, size, sums, telling

SHORTER = {"synchronization": "sync.", "aggregation": "aggr."}
FEW = 3
"""As many names are told of the variables that a creator changed."""


def draw(lines: Sequence[Line], totals: Mapping[str, Any]) -> None:
    """Print the columns that say something, what the creators changed, and the totals.

    What is the same for all variables is said once. Cells are `Text`: no markup is read in them.
    """
    console = Console(highlight=False)
    rows = [line.cells() for line in lines]
    for line, cells in zip(lines, rows, strict=True):
        cells["bytes"] = size(line.nbytes)
        cells["creators"] = ", ".join(decision.creator for decision in line.rows[0].decisions)
    common = [h for h in ("dtype", "device", "trainable") if len({row[h] for row in rows}) == 1]
    headings = [heading for heading in telling(rows) if heading not in common]
    table = _table(*(SHORTER.get(heading, heading) for heading in headings))
    for column, heading in zip(table.columns, headings, strict=True):
        column.justify = "right" if heading in ("bytes", "count") else "left"
        column.no_wrap = heading in ("count", "shape", "dtype", "device", "bytes", "trainable")
    for cells in rows:
        table.add_row(*(Text(cells[heading]) for heading in headings))
    console.print(table)
    console.print(Text(", ".join(f"{heading} {rows[0][heading]}" for heading in common)))
    if "creators" in headings:
        console.print(_decisions(lines))
    console.print(Text(f"\n{sums(lines, totals)}"))


def _decisions(lines: Sequence[Line]) -> Table:
    """Return a table of what each creator changed, and of which variables."""
    names: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for decision in line.rows[0].decisions:
            creator = decision.creator
            changed = printable(str(decision)).removeprefix(f"{creator}: ")
            names.setdefault((creator, changed), []).append(printable(line.name))
    table = _table("creator", "changed", "of")
    for (creator, changed), of in names.items():
        more = f" and {len(of) - FEW} more" if len(of) > FEW else ""
        table.add_row(Text(creator), Text(changed), Text(", ".join(of[:FEW]) + more))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")  # a name is never cut short
    return table
