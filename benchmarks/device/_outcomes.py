"""What came of each check and question, as lines, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._rows import Missing, Row, table

FORMAT = 1
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Attributes:
        part: The letter of its part.
        check: What was checked.
        result: OK, FAILED or SKIPPED.
        detail: A figure, the error, or the reason.
        seconds: What it took.
    """

    part: str
    check: str
    result: str
    detail: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        said = f": {self.detail}" if self.detail else ""
        return f"({self.part}) {self.result:7} {self.check}{said} ({self.seconds:.1f} s)"


def failed(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> bool:
    """Return whether anything went wrong."""
    broken = any(isinstance(row, Missing) and row.failed for row in rows)
    return broken or any(outcome.result == FAILED for outcome in outcomes)


def to_json(
    machine: dict[str, Any],
    versions: dict[str, str],
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
) -> str:
    """Return a whole run as JSON."""
    fields = {
        "format": FORMAT,
        "machine": machine,
        "versions": versions,
        "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    return json.dumps(fields, ensure_ascii=False, indent=1) + "\n"


def to_markdown(
    machine: dict[str, Any],
    versions: dict[str, str],
    titles: dict[str, str],
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
) -> str:
    """Return a whole run as two tables, and a list of what was not as it should be between them.

    Args:
        machine: What it ran on.
        versions: With which versions.
        titles: The title of each part, by its letter, in the order of the table.
        outcomes: Of the checks.
        rows: Of the speed table.
    """
    lines = [
        f"{machine['device']}, {machine['cpu']}, {machine['cores']} cores, torch "
        f"{versions['torch']}, Python {machine['python']}, {machine['date']}",
        "",
        "| part | checks | ok | failed | skipped | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(_line(letter, title, outcomes) for letter, title in titles.items()),
    ]
    other = [outcome for outcome in outcomes if outcome.result != OK or outcome.detail]
    if other:
        lines += ["", *(f"- {_one_line(outcome)}" for outcome in other)]
    if rows:
        lines += ["", table(rows)]
    return "\n".join(lines) + "\n"


def _line(letter: str, title: str, outcomes: Sequence[Outcome]) -> str:
    own = [outcome for outcome in outcomes if outcome.part == letter]
    counts = Counter(outcome.result for outcome in own)
    seconds = sum(outcome.seconds for outcome in own)
    cells = (letter, title, counts[OK], counts[FAILED], counts[SKIPPED], f"{seconds:.0f}")
    return f"| {' | '.join(map(str, cells))} |"


def _one_line(outcome: Outcome) -> str:
    return " ".join(str(outcome).split())


def check_target(path: Path | None, option: str) -> str | None:
    """Return what is wrong with a file to write to, before anything has run."""
    if path is None or path.resolve().parent.is_dir():
        return None
    return f"{option} {path}: its folder does not exist"
