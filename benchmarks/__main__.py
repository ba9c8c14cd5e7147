"""Ask every question: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import _report
from benchmarks._measure import Question
from benchmarks._process import CHECKOUT, answers_of, questions
from benchmarks._report import Report, UsageError
from benchmarks._rows import Missing, Row, table

FILES = (
    *("core", "stock_modules", "floor", "lookup", "defer", "build", "checkpoint"),
    *("recreate", "constraints", "distributed", "plugin"),
)
"""One per question, in the order of the table. Each is run in a process of its own."""

README = CHECKOUT / "README.md"
START, END = "<!-- python -m benchmarks --readme -->", "<!-- end -->"


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(FILES)}")
    made.add_argument("--quick", action="store_true", help="rough figures, in a fraction of it")
    made.add_argument("--device", default="cpu", help="cpu, or cuda where there is one")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    made.add_argument(
        "--from", type=Path, metavar="FILE", dest="known", help="measure nothing: read that file"
    )
    made.add_argument("--readme", action="store_true", help="write the README's table anew")
    made.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="say what moved beyond noise since that file, until now or until a second one",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    arguments = parser().parse_args(argv)
    try:
        old, new = _compared(arguments.compare or [])
        if new is None:
            names = _files(arguments.only or FILES)
            _check(arguments)
            new = _report.read(arguments.known) if arguments.known else _measured(names, arguments)
            _show(new, names, arguments)
    except UsageError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    if old is not None:
        print(_report.explain(old, new))
    return int(any(isinstance(row, Missing) and row.failed for row in new.rows))


def headlines(names: Sequence[str] = FILES) -> list[Question]:
    """Return the questions whose answers the README shows."""
    asked = [one for name in names for one in questions(f"benchmarks.{name}")]
    return [one for one in asked if one.headline]


def _compared(paths: Sequence[Path]) -> tuple[Report | None, Report | None]:
    """Read the reports to compare, as far as they are there."""
    if len(paths) > 2:
        raise UsageError(f"--compare takes one file or two, not {len(paths)}")
    read = [_report.read(path) for path in paths]
    return (read[0] if read else None), (read[1] if len(read) == 2 else None)


def _files(names: Sequence[str]) -> Sequence[str]:
    """Check the names of files."""
    unknown = [name for name in names if name not in FILES]
    if unknown:
        raise UsageError(f"nothing is called {', '.join(unknown)}; there are {', '.join(FILES)}")
    return [name for name in FILES if name in names]


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would fail after everything was measured."""
    import torch

    device = arguments.device
    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device is cpu or cuda, not {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch {torch.__version__} sees no CUDA device here")
    _report.check_target(arguments.json)
    if arguments.readme and (arguments.only or device != "cpu"):
        raise UsageError("--readme needs all rows, on cpu: leave out --only and --device")
    with_table(README.read_text(), "")


def _answers(names: Sequence[str], *, quick: bool, device: str) -> Iterator[Row]:
    """Yield the rows of each file, which runs in a process of its own."""
    for number, name in enumerate(names, 1):
        print(f"{name} ({number} of {len(names)})", file=sys.stderr)
        yield from answers_of(f"benchmarks.{name}", quick=quick, device=device)


def _measured(names: Sequence[str], arguments: argparse.Namespace) -> Report:
    """Ask the questions of these files."""
    rows = list(_answers(names, quick=arguments.quick, device=arguments.device))
    return _report.describe(rows, device=arguments.device, quick=arguments.quick)


def _show(report: Report, names: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print the tables, and write the files that were asked for."""
    machine, torch = report.machine, report.versions["torch"]
    print(f"{machine['cpu']}, {machine['cores']} cores, torch {torch}, {machine['device']}\n")
    shown = _report.headlines(report.rows, headlines(names))
    print(table(report.rows), shown, sep="\n\n")
    if arguments.json:
        _report.write(report, arguments.json)
    if arguments.readme:
        README.write_text(with_table(README.read_text(), shown))


def with_table(text: str, shown: str) -> str:
    """Return a page with another table between its markers.

    Raises:
        UsageError: The page has no markers.
    """
    head, found, rest = text.partition(START)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise UsageError(f"the README has no {START} and {END} to write between")
    return f"{head}{START}\n{shown}\n{END}{tail}"


if __name__ == "__main__":
    sys.exit(main())
