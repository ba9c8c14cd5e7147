"""An inventory as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchcreator.report._words import COLUMNS, aligned, printable, size, words

if TYPE_CHECKING:
    from torchcreator.report._inventory import Inventory


def text(inventory: Inventory, depth: int) -> str:
    """Return the table of an inventory and its totals; an empty cell is a dash."""
    rows = [words(row) for row in inventory]
    headings = list(COLUMNS)
    cells = [[row[heading] or "-" for heading in headings] for row in rows]
    table = aligned([headings, *cells], right=(headings.index("bytes"),))
    return f"{table}\n\n{sums(inventory, depth)}"


def sums(inventory: Inventory, depth: int) -> str:
    """Return the totals of an inventory, by module, dtype and trainability."""
    totals = inventory.totals(depth)
    rows = [["", "variables", "elements", "bytes", ""], _line("total", totals)]
    for entry in totals["by_module"][1:]:
        indent = "  " * entry["module"].count(".")
        rows.append(_line(f"{indent}{printable(entry['module'])}", entry))
    rows += [_line(entry["dtype"], entry) for entry in totals["by_dtype"]]
    rows += [
        _line("trainable" if entry["trainable"] else "not trainable", entry)
        for entry in totals["by_trainable"]
    ]
    lines = [aligned(rows, right=(1, 2, 3, 4))]
    held = sum(row.local_nbytes for row in inventory)
    if any(row.placements for row in inventory):
        lines.append(f"this rank has {size(held)} of the {size(inventory.nbytes)}")
    if inventory.buffers:
        lines.append(f"and {inventory.buffers} buffers, {size(inventory.buffer_nbytes)}")
    return "\n".join(lines)


def _line(title: str, entry: dict[str, Any]) -> list[str]:
    numbers = [str(entry[key]) for key in ("variables", "elements", "bytes")]
    return [title, *numbers, size(entry["bytes"])]
