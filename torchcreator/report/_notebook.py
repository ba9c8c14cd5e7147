"""An inventory in a notebook: the table, its totals, and the page with the map in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from torchcreator.creators._html import html_table
from torchcreator.report._text import Line, sums_of, telling

MOST_LINES = 500
"""More than these make a notebook slow; the page of `Inventory.html` shows all."""
LARGEST_PAGE = 2_000_000
"""As many characters of a page are kept in a notebook's file."""


def notebook(title: str, lines: Sequence[Line], totals: Mapping[str, Any], page: str) -> str:
    """Return HTML of the columns that say something, the totals, and the page behind a press."""
    cells = [line.cells() for line in lines]
    headings = telling(cells)
    rows = [[line[heading] for heading in headings] for line in cells[:MOST_LINES]]
    left_out = len(cells) - MOST_LINES
    more = f"<p>and {left_out:,} more</p>" if left_out > 0 else ""
    right = [at for at, heading in enumerate(headings) if heading in ("count", "bytes")]
    table = html_table(title, headings, rows, right=right)
    return f"{table}{more}{_totals(totals)}{_map(page)}"


def _totals(totals: Mapping[str, Any]) -> str:
    _, *rows = sums_of(totals)
    headings = ("of", "variables", "elements", "bytes", "size")
    table = html_table("", headings, rows, right=range(1, len(headings)))
    return f"<details><summary>Totals</summary>{table}</details>"


def _map(page: str) -> str:
    """Return the page in a frame that opens in place, and reaches nothing around it."""
    if len(page) > LARGEST_PAGE:
        return '<p>Too large to open here: <code>inventory.html("page.html")</code></p>'
    frame = (
        f'<iframe sandbox="allow-scripts" loading="lazy" title="Map" srcdoc="{escape(page)}" '
        'style="width: 100%; height: 860px; border: 0"></iframe>'
    )
    return f"<details><summary>Map</summary>{frame}</details>"
