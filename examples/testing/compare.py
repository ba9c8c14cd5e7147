"""Run the tests of this folder on real and on fake parameters, and print what each run took.

Run it with ``python examples/testing/compare.py``; it needs pytest and transformers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
PLUGIN = ["-p", "torchcreator.pytest_plugin"]
REAL = ["-o", "torchcreator_creators="]
THREADS = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Run:
    """What a run of the tests took.

    Attributes:
        tests: How many passed.
        seconds: In the tests.
        whole: From the start of pytest to its end, in seconds.
    """

    tests: int
    seconds: float
    whole: float


def run(*arguments: str) -> Run:
    """Run the tests in a process of their own.

    Raises:
        SystemExit: A test failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [*PYTEST, *PLUGIN, *arguments, f"--junit-xml={report}", str(HERE)]
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=HERE, env={**os.environ, **THREADS}, capture_output=True, text=True
        )
        whole = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        cases = [case.attrib for case in ElementTree.parse(report).iter("testcase")]
    return Run(len(cases), sum(float(case["time"]) for case in cases), whole)


def main() -> None:
    """Print the table."""
    real, fake = run(*REAL), run()
    print("| parameters | tests | in the tests | whole run, imports too |")
    print("| --- | ---: | ---: | ---: |")
    for name, one in (("real", real), ("fake", fake)):
        print(f"| {name} | {one.tests} | {one.seconds:.2f} s | {one.whole:.1f} s |")
    print(f"| fake / real | | {fake.seconds / real.seconds:.3f} | {fake.whole / real.whole:.2f} |")


if __name__ == "__main__":
    main()
