"""Strict type checking accepts what is right and names what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRONG = ROOT / "tests/typing/wrong.py"
IGNORE = re.compile(r"  # type: ignore\[(?P<codes>[a-z, -]+)\]  # (?P<words>.+)$")

marked = {
    number: match
    for number, line in enumerate(WRONG.read_text().splitlines(), 1)
    if (match := IGNORE.search(line))
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """Return what mypy says of both files, and of the wrong one without its ignores."""
    bare = tmp_path_factory.mktemp("typing") / "bare.py"
    bare.write_text(re.sub(IGNORE.pattern, "", WRONG.read_text(), flags=re.MULTILINE))
    mypy = [sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary", "--no-color-output"]
    done = subprocess.run(
        [*mypy, "tests/typing/right.py", str(WRONG.relative_to(ROOT)), str(bare)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def test_right_code_is_accepted_and_every_ignore_is_needed(complaints):
    """What is right passes, and each wrong line is wrong: an ignore without need is an error."""
    assert [line for line in complaints if line.startswith("tests/typing/")] == []


@pytest.mark.parametrize("number", marked, ids=[f"line{number}" for number in marked])
def test_wrong_code_is_named(complaints, number):
    """Each wrong line is reported there, with the right code, in words that help."""
    said = "\n".join(line for line in complaints if f"bare.py:{number}:" in line)
    for code in marked[number]["codes"].split(", "):
        assert f"[{code}]" in said
    assert marked[number]["words"] in said


def test_nothing_else_is_wrong(complaints):
    """Lines without a mark are accepted in the wrong file too."""
    found = {int(n) for n in re.findall(r"bare\.py:(\d+): error", "\n".join(complaints))}
    assert found == set(marked)
