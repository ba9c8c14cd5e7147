"""Tests in a process of their own, each told as it ends, so that a hang takes only what follows.

Run as ``python -m benchmarks.device._run_tests PART DEVICE FILE MARKS TEST_FILE...``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks._process import CHECKOUT
from benchmarks.device._outcomes import FAILED, OK, SKIPPED, Outcome

STARTED = "started"
_LONGEST = 4000  # characters of a traceback, of its end
_GRACE = 5.0  # seconds that a process gets to say where it hangs


def outcomes_of(
    part: str, files: Sequence[str], *, device: str, marks: str, seconds: float
) -> list[Outcome]:
    """Run files of tests; return what came of each test, also if their process hangs or dies.

    Args:
        part: The letter of the part.
        files: The files, from the checkout on.
        device: "cuda" or "cpu": which of two tests to run that differ in nothing else.
        marks: Which tests to run, as pytest's ``-m`` wants it; it shows GPUs if it names cuda.
        seconds: After these, what still runs is ended.
    """
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        told.touch()
        ended = _run([part, device, str(told), marks, *files], seconds)
        lines = [json.loads(line) for line in told.read_text().splitlines()]
    outcomes = [Outcome(**line) for line in lines if line["result"] != STARTED]
    over = {outcome.check for outcome in outcomes}
    running = [line["check"] for line in lines if line["check"] not in over]
    if ended is not None:
        check = running[0] if running else f"the tests of {', '.join(files)}"
        spent = perf_counter() - start - sum(outcome.seconds for outcome in outcomes)
        outcomes.append(Outcome(part, check, FAILED, ended, spent))
        print(outcomes[-1], flush=True)
    return outcomes


def _run(arguments: list[str], seconds: float) -> str | None:
    """Run this file as a program; return how it ended, if not by telling of every test."""
    command = [sys.executable, "-m", "benchmarks.device._run_tests", *arguments]
    environment = {**os.environ, "TORCHCREATOR_DEVICE_SECONDS": str(max(1.0, seconds - _GRACE))}
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, start_new_session=True, stdin=subprocess.DEVNULL
    )
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"given up after {seconds:.0f} s; what follows it in this part did not run"
    finally:
        _end(process)
    # 0: all passed; 1: some failed, and are told; 5: none was selected
    return None if code in (0, 1, 5) else f"its process ended with {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Teller:
    """A pytest plugin that writes a line when a test starts, and one when it has ended."""

    def __init__(self, part: str, device: str, told: Path) -> None:
        self._part = part
        self._device = device
        self._told = told
        self._seconds = 0.0
        self._out = os.fdopen(os.dup(1), "w")  # pytest captures the other one

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Leave out what is asked of another device, where the same is asked of this one."""
        other = "cpu" if self._device == "cuda" else "cuda"
        ids = {item.nodeid for item in items}
        twins = {id for id in ids if other in id and id.replace(other, self._device) in ids}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in twins])
        items[:] = [item for item in items if item.nodeid not in twins]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what runs now."""
        self._seconds = 0.0
        self._write(Outcome(self._part, _short(nodeid), STARTED))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Say how it went: once, or twice where a test passed and its fixtures did not."""
        self._seconds += report.duration
        if report.when == "call" or not report.passed:
            result = FAILED if report.failed else SKIPPED if report.skipped else OK
            check, reason = _short(report.nodeid), _reason(report)
            self._write(Outcome(self._part, check, result, reason, self._seconds))
            if report.failed:
                print(report.longreprtext[-_LONGEST:], file=self._out, flush=True)

    def pytest_collectreport(self, report: Any) -> None:
        """Say which file could not be read."""
        if report.failed:
            self._write(Outcome(self._part, _short(report.nodeid), FAILED, _reason(report)))

    def pytest_report_teststatus(self) -> tuple[str, str, str]:
        """Let pytest itself print nothing."""
        return "", "", ""

    def _write(self, outcome: Outcome) -> None:
        with self._told.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(outcome), ensure_ascii=False) + "\n")
        if outcome.result != STARTED:
            print(outcome, file=self._out, flush=True)


def _short(nodeid: str) -> str:
    return nodeid.rpartition("/")[2]


def _reason(report: Any) -> str:
    """Return a test's figures, why it was skipped, or the last line of its error."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        return str(crash.message if crash else report.longrepr).strip().splitlines()[0]
    return ", ".join(str(value) for name, value in report.user_properties if name == "figure")


def main(arguments: Sequence[str]) -> int:
    """Run the tests that the command line names."""
    import pytest

    part, device, told, marks, *files = arguments
    seconds = float(os.environ["TORCHCREATOR_DEVICE_SECONDS"])
    faulthandler.dump_traceback_later(seconds)
    options = ["-q", "--no-header", "--no-summary", "-m", marks]
    options += ["-n", "0", "-p", "no:cacheprovider", "-p", "no:randomly"]
    options += ["-o", f"timeout={seconds / 2:.0f}"]  # one test that hangs leaves time for others
    return int(pytest.main([*options, *files], plugins=[Teller(part, device, Path(told))]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
