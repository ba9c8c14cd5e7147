"""What the variables of a model come to: in all, by module, dtype and trainability."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from torchcreator.creators._changes import in_words
from torchcreator.report._reading import paths_above
from torchcreator.report._rows import Row


def totals(rows: Sequence[Row], depth: int) -> dict[str, Any]:
    """Return the sums over rows as plain data.

    A module has what the modules inside it have, so the first one, the model itself, has all.

    Args:
        rows: The variables; one that is tied is one.
        depth: How many levels of modules below the model to list.
    """
    trained = [row for row in rows if row.trainable]
    return {
        **_sums(rows),
        "trainable_elements": sum(row.elements for row in trained),
        "trainable_bytes": sum(row.nbytes for row in trained),
        "by_module": _by("module", rows, lambda row: list(paths_above(row.module))[: depth + 1]),
        "by_dtype": _by("dtype", rows, lambda row: [in_words("dtype", row.dtype)]),
        "by_trainable": _by("trainable", rows, lambda row: [row.trainable]),
    }


def _by(
    column: str, rows: Sequence[Row], groups_of: Callable[[Row], Iterable[Hashable]]
) -> list[dict[str, Any]]:
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        for group in groups_of(row):
            groups.setdefault(group, []).append(row)
    return [{column: group, **_sums(members)} for group, members in groups.items()]


def _sums(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "variables": len(rows),
        "elements": sum(row.elements for row in rows),
        "bytes": sum(row.nbytes for row in rows),
    }
