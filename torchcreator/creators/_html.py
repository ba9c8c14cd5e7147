"""A table for notebooks: plain HTML in the notebook's own colours, in which names are only text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape


def html_table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[int] = (),
) -> str:
    """Return a table.

    Args:
        caption: What it is about.
        headings: Its columns.
        rows: The cells of each row.
        right: The columns that end below each other, numbers say; the others begin so. The first
            one is never broken into lines.
    """
    styles = [f"text-align: {'right' if at in right else 'left'}" for at in range(len(headings))]
    styles[0] += "; white-space: nowrap"

    def line(tag: str, cells: Sequence[str]) -> str:
        pairs = zip(styles, cells, strict=True)
        return "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for style, cell in pairs)

    body = "".join(f"<tr>{line('td', cells)}</tr>" for cells in rows)
    return (
        f'<table><caption style="text-align: left">{escape(caption)}</caption>'
        f"<thead><tr>{line('th', headings)}</tr></thead><tbody>{body}</tbody></table>"
    )
