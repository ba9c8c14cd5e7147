"""Ask a device what only it can tell, in order of worth: ``python -m benchmarks.device --help``.

It needs this checkout, and what `benchmarks.device._wheels` names; no network. It prints as it
goes, and writes its files anew after each part, so that a run that is cut short has told all that
it knew.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks import _report
from benchmarks._process import answers_of
from benchmarks._report import UsageError
from benchmarks._rows import Missing, Row
from benchmarks.device import _outcomes, _wheels
from benchmarks.device._outcomes import SKIPPED, Outcome
from benchmarks.device._parts import PARTS, Part, Questions
from benchmarks.device._run_tests import outcomes_of

WRITING = 5.0
"""Seconds kept back for ending processes and writing the files."""
LEAST = 5.0
"""Seconds below which nothing is started."""
GIB_OFF_CUDA = "0.25"
"""The size of the checkpoint where there is no GPU."""


@dataclasses.dataclass
class Run:
    """What is known so far, and how much time is left.

    Attributes:
        device: "cuda" or "cpu".
        deadline: When it has to end, by `perf_counter`.
        json: Where to write all of it.
        markdown: Where to write the tables.
        outcomes: Of the checks.
        rows: Of the speed table.
    """

    device: str
    deadline: float
    json: Path | None = None
    markdown: Path | None = None
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)

    def left(self, part: Part, since: float) -> float:
        """Return the seconds that a part has, if it began at ``since``."""
        return min(since + 60 * part.minutes, self.deadline) - perf_counter()

    def do(self, part: Part) -> None:
        """Run the tests of a part, and ask its questions, as far as the time goes."""
        since = perf_counter()
        print(f"\n({part.letter}) {part.title}", flush=True)
        if self.left(part, since) < LEAST:
            self.outcomes.append(Outcome(part.letter, part.title, SKIPPED, "no time left"))
            print(self.outcomes[-1], flush=True)
            return
        if part.tests:
            self.outcomes += outcomes_of(
                part.letter,
                part.tests,
                device=self.device,
                marks=part.marks,
                seconds=self.left(part, since),
            )
        for number, questions in enumerate(part.questions):
            following = sum(one.share for one in part.questions[number:])
            seconds = self.left(part, since) * questions.share / following
            self.rows += self._answers(questions, seconds)

    def _answers(self, questions: Questions, seconds: float) -> list[Row]:
        """Ask some rows of the speed table; what there is no time for is no failure."""
        limit = max(seconds, 0.0)
        name = f"benchmarks.{questions.file}"
        if limit < LEAST:
            print(f"{name}: no time left", flush=True)
            return [Missing(name, "its peers", "no time left")]
        rows = answers_of(name, quick=True, device=self.device, limit=limit, words=questions.words)
        out_of_time = f"given up after {limit:.0f} s"
        return [
            dataclasses.replace(row, reason="no time left", failed=False)
            if isinstance(row, Missing) and row.reason == out_of_time
            else row
            for row in rows
        ]

    def write(self) -> None:
        """Write what is known."""
        described = _report.describe([], device=self.device, quick=True)
        machine, versions = described.machine, described.versions
        if self.json:
            text = _outcomes.to_json(machine, versions, self.outcomes, self.rows)
            self.json.write_text(text)
        if self.markdown:
            titles = {part.letter: part.title for part in PARTS}
            self.markdown.write_text(
                _outcomes.to_markdown(machine, versions, titles, self.outcomes, self.rows)
            )


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    made.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    made.add_argument("--minutes", type=float, default=8.0, help="when it ends at the latest")
    made.add_argument("--only", nargs="+", metavar="LETTER", help="only these parts")
    made.add_argument("--wheels", type=Path, metavar="FOLDER", help="packages to bring along")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    start = perf_counter()
    arguments = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        try:
            brought = _wheels.unpack(arguments.wheels, Path(folder)) if arguments.wheels else []
            parts = _chosen(arguments.only)
            _check(arguments)
        except (UsageError, ValueError) as error:
            print(f"python -m benchmarks.device: {error}", file=sys.stderr)
            return 2
        run = Run(
            arguments.device,
            start + 60 * arguments.minutes - WRITING,
            arguments.json,
            arguments.markdown,
        )
        _announce(parts, run.device, brought)
        for part in parts:
            run.do(part)
            run.write()
    spent = perf_counter() - start
    failed = _outcomes.failed(run.outcomes, run.rows)
    print(f"\n{'FAILED' if failed else 'nothing failed'}, after {spent:.0f} s", flush=True)
    return int(failed)


def _chosen(letters: Sequence[str] | None) -> list[Part]:
    known = {part.letter: part for part in PARTS}
    unknown = [letter for letter in letters or () if letter not in known]
    if unknown:
        raise UsageError(f"no part is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [part for part in PARTS if not letters or part.letter in letters]


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would only be noticed later."""
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"torch {torch.__version__} sees no CUDA device here; --device cpu runs what it can"
        )
    if needed := list(_wheels.missing()):
        names = " ".join(f"'{name}'" for name in needed)
        raise UsageError(
            f"the tests need {', '.join(needed)}. Where there is a network:\n"
            f"  pip download --no-deps --only-binary :all: --dest build/wheels {names}\n"
            "and then, here: --wheels build/wheels"
        )
    for path, option in ((arguments.json, "--json"), (arguments.markdown, "--markdown")):
        if wrong := _outcomes.check_target(path, option):
            raise UsageError(wrong)
    if arguments.device == "cpu":
        os.environ.setdefault("TORCHCREATOR_BENCHMARK_GIB", GIB_OFF_CUDA)


def _announce(parts: Sequence[Part], device: str, brought: Sequence[str]) -> None:
    """Say what will run on what, and what will not, and why."""
    import torch

    name = _report.device_name(device)
    print(f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    for wheel in brought:
        print(f"brought along: {wheel}")
    for package in _wheels.absent():
        print(f"not installed: {package}; the checks and rows that need it are skipped")
    if device == "cpu":
        print("Without CUDA:")
        for part in parts:
            print(f"({part.letter}) {part.title}: {part.off_cuda}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
