"""What differs between two inspected models, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torchcreator.report._words import printable, size

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


def _shape(shape: list[int] | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"
