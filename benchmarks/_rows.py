"""What questions are answered with: rows, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks._measure import Ratio


@dataclass(frozen=True)
class Missing:
    """A question that was not answered.

    Attributes:
        work: What should have been done.
        against: By whom else.
        reason: Why it was not, in one line.
        failed: Whether that is an error, not a matter of what is installed.
    """

    work: str
    against: str
    reason: str
    failed: bool = False


Row = Ratio | Missing


def to_json(row: Row) -> str:
    """Write a row as one line."""
    return json.dumps(dataclasses.asdict(row), ensure_ascii=False)


def from_dict(fields: dict[str, Any]) -> Row:
    """Return the row that was written.

    Raises:
        TypeError: These are not a row's fields.
    """
    return Missing(**fields) if "reason" in fields else Ratio(**fields)


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table, what was not measured below it."""
    rows = list(rows)
    lines = [
        "| work | against | ours | theirs | ratio | of the takes | noise | at most |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_line(row) for row in rows if isinstance(row, Ratio)),
    ]
    missing = [row for row in rows if isinstance(row, Missing)]
    if missing:
        lines += ["", "Not measured:", "", *(_excuse(row) for row in missing)]
    return "\n".join(lines)


def figure(row: Ratio) -> str:
    """Return a ratio with the noise it was measured in."""
    return f"{short(row.ratio)}" + ("" if row.noise is None else f" [{row.noise:.2f}]")


def short(ratio: float) -> str:
    """Write a ratio with the digits that mean something.

    >>> short(1.0349), short(0.0712), short(46.21), short(0.0004)
    ('1.03', '0.07', '46', '0.0004')
    """
    if ratio >= 10:
        return f"{ratio:.0f}"
    return f"{ratio:.2f}" if ratio >= 0.05 or ratio == 0 else f"{ratio:.1g}"


def amount(value: float, unit: str) -> str:
    """Write a duration or a size with the unit that suits it.

    >>> amount(0.00215, "s"), amount(3e-6, "s"), amount(2048, "MiB")
    ('2.15 ms', '3 µs', '2,048 MiB')
    """
    if unit != "s":
        return f"{value:,.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    for name, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value / 1e-6:.3g} µs"


def _line(row: Ratio) -> str:
    cells = [
        *(row.work, row.against, amount(row.ours, row.unit), amount(row.theirs, row.unit)),
        *(short(row.ratio), f"{short(row.low)}-{short(row.high)}"),
        "" if row.noise is None else f"{row.noise:.2f}",
        "" if row.at_most is None else short(row.at_most),
    ]
    return f"| {' | '.join(cells)} |"


def _excuse(row: Missing) -> str:
    return f"- {row.work}, against {row.against}: {'FAILED: ' * row.failed}{row.reason}"
