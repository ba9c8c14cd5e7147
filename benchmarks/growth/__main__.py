"""Measure how cost grows, and draw it: ``python -m benchmarks.growth --help``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import _report
from benchmarks._measure import Ratio
from benchmarks._process import CHECKOUT, answers_of, questions
from benchmarks._report import UsageError
from benchmarks._rows import Missing, Row
from benchmarks.growth._plot import Curve, draw

CURVES = (
    Curve(
        "chain",
        "One variable through a chain of creators",
        "creators in the chain, each passing on",
        True,
    ),
    Curve("parameters", "Making a model of nn.Linear(4, 4)", "parameters"),
    Curve("steps", "One SGD step, every parameter of 16 numbers at least zero", "parameters"),
    Curve("sizes", "Building a model, on one thread and on two", "size of the parameters, in MiB"),
    Curve("loading", "Loading a model", "size of the parameters, in MiB"),
    Curve("ranks", "One DDP step of 600 parameters of 64 numbers", "ranks on this machine", True),
)
PICTURES = CHECKOUT / "docs" / "images" / "benchmarks"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    names = [curve.module for curve in CURVES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="fewer points, rough figures")
    parser.add_argument("--into", type=Path, default=PICTURES, help="the folder of the pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--from", type=Path, metavar="FILE", dest="known", help="draw that file")
    arguments = parser.parse_args(argv)
    curves = [curve for curve in CURVES if curve.module in (arguments.only or names)]
    try:
        _check(arguments)
        known = _report.read(arguments.known).rows if arguments.known else None
    except UsageError as error:
        print(f"python -m benchmarks.growth: {error}", file=sys.stderr)
        return 2
    rows = _measured(curves, quick=arguments.quick) if known is None else known
    if arguments.json:
        _report.write(_report.describe(rows, device="cpu", quick=arguments.quick), arguments.json)
    for curve in curves:
        if points := _points(curve, rows):
            draw(curve, points, path := arguments.into / f"{curve.module}.svg")
            print(path)
    return int(any(isinstance(row, Missing) and row.failed for row in rows))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would fail after everything was measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("matplotlib draws the pictures: pip install -e '.[bench]'")
    if not arguments.into.is_dir():
        raise UsageError(f"--into {arguments.into}: there is no such folder")
    if arguments.json and arguments.known:
        raise UsageError("--json keeps what is measured, and with --from nothing is")
    _report.check_target(arguments.json)


def _measured(curves: Sequence[Curve], *, quick: bool) -> Sequence[Row]:
    """Return the rows of each curve, which is measured in a process of its own."""
    rows: list[Row] = []
    for curve in curves:
        print(curve.module, file=sys.stderr)
        rows += answers_of(f"benchmarks.growth.{curve.module}", quick=quick)
    return rows


def _points(curve: Curve, rows: Sequence[Row]) -> list[Ratio]:
    """Return those rows that belong to a curve."""
    names = {
        (asked.work, asked.against) for asked in questions(f"benchmarks.growth.{curve.module}")
    }
    measured = [row for row in rows if isinstance(row, Ratio)]
    return [row for row in measured if (row.work, row.against) in names]


if __name__ == "__main__":
    sys.exit(main())
