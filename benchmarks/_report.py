"""A whole run as a file: rows, versions and machine; and what moved from one file to another."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks._measure import Question, Ratio
from benchmarks._rows import Row, figure, from_dict, short

PACKAGES = (
    *("torch", "torchcreator", "numpy", "safetensors", "pytest"),
    *("tensorflow", "tensorflow-cpu", "keras", "dm-haiku", "jax", "transformers", "accelerate"),
    *("lightning", "deepspeed", "geotorch"),
)
FORMAT = 1


class UsageError(Exception):
    """A file or an option cannot be used; the message is one line."""


@dataclass(frozen=True)
class Report:
    """What was measured, when, on what, and with which versions."""

    machine: dict[str, Any]
    versions: dict[str, str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Change:
    """How one row of a report compares with the same row of an older one.

    Attributes:
        name: What was done, and by whom else.
        old: The ratio then.
        new: The ratio now.
        spread: How far apart two measurements of equal code may lie, as a factor above 1.
    """

    name: str
    old: float
    new: float
    spread: float

    @property
    def moved(self) -> bool:
        """Whether the difference is larger than what noise explains."""
        return abs(math.log(self.new / self.old)) > math.log(self.spread)


def describe(rows: Sequence[Row], *, device: str, quick: bool) -> Report:
    """Return a report of rows that were measured on this machine."""
    machine = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "device": device_name(device),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": quick,
    }
    return Report(machine, dict(versions()), rows)


def versions() -> Iterator[tuple[str, str]]:
    """Yield what is installed, of the packages that are compared."""
    import torchcreator

    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "torchcreator":  # run from the checkout
                yield name, torchcreator.__version__


def cpu_model() -> str:
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """Return what the device calls itself."""
    if device == "cpu":
        return device
    import torch

    return f"{device}: {torch.cuda.get_device_name(device)}"


def write(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    fields = {
        "format": FORMAT,
        "machine": report.machine,
        "versions": report.versions,
        "rows": [dataclasses.asdict(row) for row in report.rows],
    }
    path.write_text(json.dumps(fields, ensure_ascii=False, indent=1) + "\n")


def check_target(path: Path | None) -> None:
    """Refuse, before anything is measured, a file that could not be written then.

    Raises:
        UsageError: Its folder does not exist.
    """
    if path is not None and not path.resolve().parent.is_dir():
        raise UsageError(f"--json {path}: its folder does not exist")


def read(path: Path) -> Report:
    """Read a report.

    Raises:
        UsageError: There is no such file, or it is something else.
    """
    try:
        fields = json.loads(path.read_text())
        if fields["format"] != FORMAT:
            raise UsageError(f"{path}: of format {fields['format']!r}, this reads {FORMAT}")
        rows = [from_dict(row) for row in fields["rows"]]
        return Report(fields["machine"], fields["versions"], rows)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: not a report that --json wrote") from error


def changes(old: Report, new: Report) -> list[Change]:
    """Return how the rows that both reports measured compare."""
    before, after = _measured(old), _measured(new)
    return [
        Change(name, then.ratio, now.ratio, spread(then) * spread(now))
        for name, now in after.items()
        if (then := before.get(name)) and then.ratio > 0 and now.ratio > 0
    ]


def spread(row: Ratio) -> float:
    """Return the factor by which another measurement of the same row may differ.

    It is the larger of two: how far the takes lie from the figure, and how far a function lay from
    itself; but at least 2 %, which is what two processes differ by in all else.
    """
    factors = [row.high / row.ratio, row.ratio / row.low, 1.02] if row.low > 0 else [1.02]
    if row.noise:
        factors.append(max(row.noise, 1 / row.noise))
    return max(factors)


def explain(old: Report, new: Report) -> str:
    """Return what moved, in words, a line for each row that did."""
    compared = changes(old, new)
    moved = [change for change in compared if change.moved]
    lines = [
        f"{'slower' if change.new > change.old else 'faster'}: {change.name}: "
        f"{short(change.old)} -> {short(change.new)} "
        f"(noise explains a factor of {change.spread:.2f})"
        for change in moved
    ]
    lines += [
        f"only in the {which} report: {name}"
        for which, one, other in (("old", old, new), ("new", new, old))
        for name in _measured(one)
        if name not in _measured(other)
    ]
    if old.machine.get("cpu") != new.machine.get("cpu"):
        lines.append(f"other machine: {old.machine.get('cpu')} -> {new.machine.get('cpu')}")
    return "\n".join([*lines, f"{len(moved)} of {len(compared)} rows moved beyond noise"])


def headlines(rows: Sequence[Row], questions: Sequence[Question]) -> str:
    """Return the README's table: what was answered to these questions, in this order.

    The last column is what the same work took against everything else that does it.
    """
    lines = [
        "| work | against | ratio [noise] | at most | and against |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for asked in questions:
        same = [row for row in rows if isinstance(row, Ratio) and row.work == asked.work]
        found = [figure(row) for row in same if row.against == asked.against]
        others = [
            f"{row.against} {short(row.ratio)}" for row in same if row.against != asked.against
        ]
        at_most = "" if asked.at_most is None else short(asked.at_most)
        cells = (asked.work, asked.against, *(found or ["not measured"]), at_most)
        lines.append(f"| {' | '.join(cells)} | {'; '.join(others)} |")
    return "\n".join(lines)


def _measured(report: Report) -> dict[str, Ratio]:
    """Return the rows that were measured, by name."""
    rows = [row for row in report.rows if isinstance(row, Ratio)]
    return {
        f"{row.work}, against {row.against}"
        + ("" if row.size is None else f", at {row.size:,.0f}"): row
        for row in rows
    }
