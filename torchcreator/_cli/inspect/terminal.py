"""An inventory on a terminal, drawn by rich."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchcreator.report import Inventory
from torchcreator.report._text import printable, size, sums, telling, words

SHORTER = {"synchronization": "sync.", "aggregation": "aggr."}
FEW = 3
"""As many names are told of the variables that a creator changed."""


def draw(inventory: Inventory, depth: int) -> None:
    """Print the columns that say something, what the creators changed, and the totals.

    What is the same for all variables is said once. Cells are `Text`: no markup is read in them.
    """
    console = Console(highlight=False)
    rows = [words(row) for row in inventory]
    for row, cells in zip(inventory, rows, strict=True):
        cells["bytes"] = size(row.nbytes)
        cells["creators"] = ", ".join(decision.creator for decision in row.decisions)
    common = [h for h in ("dtype", "device", "trainable") if len({row[h] for row in rows}) == 1]
    headings = [heading for heading in telling(rows) if heading not in common]
    table = _table(*(SHORTER.get(heading, heading) for heading in headings))
    for column, heading in zip(table.columns, headings, strict=True):
        column.justify = "right" if heading == "bytes" else "left"
        column.no_wrap = heading in ("shape", "dtype", "device", "bytes", "trainable")
    for cells in rows:
        table.add_row(*(Text(cells[heading]) for heading in headings))
    console.print(table)
    console.print(Text(", ".join(f"{heading} {rows[0][heading]}" for heading in common)))
    if "creators" in headings:
        console.print(_decisions(inventory))
    console.print(Text(f"\n{sums(inventory.rows, inventory.totals(depth))}"))


def _decisions(inventory: Inventory) -> Table:
    """Return a table of what each creator changed, and of which variables."""
    names: dict[tuple[str, str], list[str]] = {}
    for row in inventory:
        for decision in row.decisions:
            creator = decision.creator
            changed = printable(str(decision)).removeprefix(f"{creator}: ")
            names.setdefault((creator, changed), []).append(printable(row.name))
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
