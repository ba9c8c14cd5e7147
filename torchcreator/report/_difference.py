"""What differs between two inventories, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torchcreator.creators._html import html_table
from torchcreator.report._text import printable, shape_in_words, size

_LEFT_OUT = ("name", "module", "elements", "local_bytes", "declared", "creators")
"""What follows from other columns, and how it came about."""


class Difference(str):
    """What differs between two inventories, a line for each variable; in a notebook, a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        *lines, summary = self.split("\n")
        return html_table(summary, ("", "variable", "what"), [line.split(" ", 2) for line in lines])


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
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
    return Difference("\n".join([*lines, f"{summary}; {size(was)} -> {size(now)}"]))


def _told(variable: Mapping[str, Any]) -> str:
    name, shape = printable(variable["name"]), shape_in_words(variable["shape"])
    return f"{name}  {shape}  {variable['dtype']}"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for column in new:
        if column in _LEFT_OUT or column not in old or old[column] == new[column]:
            continue
        show = shape_in_words if column == "shape" else str
        yield printable(f"{column} {show(old[column])} -> {show(new[column])}")
