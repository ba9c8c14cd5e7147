"""An inventory as a table in a notebook: plain HTML, in the notebook's own colours."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from torchcreator.report._words import size, telling, words

if TYPE_CHECKING:
    from torchcreator.report._inventory import Inventory

MOST_ROWS = 500
"""More than these make a notebook slow; the page of `Inventory.html` shows all."""


def table(inventory: Inventory) -> str:
    """Return a table of the columns that say something, and the totals."""
    rows = [words(row) for row in inventory]
    headings = telling(rows)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr>{''.join(_cell(heading, row[heading]) for heading in headings)}</tr>"
        for row in rows[:MOST_ROWS]
    )
    left_out = len(rows) - MOST_ROWS
    more = f"<p>and {left_out} more</p>" if left_out > 0 else ""
    title = f"{inventory.model}: {len(rows)} variables, {size(inventory.nbytes)}"
    return (
        f"<table><caption>{escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def _cell(heading: str, text: str) -> str:
    align = "right" if heading == "bytes" else "left"
    return f'<td style="text-align: {align}">{escape(text)}</td>'
