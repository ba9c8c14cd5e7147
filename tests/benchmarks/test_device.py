"""The command that asks a device: what it runs, and what it tells when something goes wrong."""

from __future__ import annotations

import json
from time import perf_counter

import pytest

from benchmarks import _process
from benchmarks._measure import Ratio
from benchmarks._process import CHECKOUT
from benchmarks._rows import Missing
from benchmarks._run import asked
from benchmarks.device import _outcomes
from benchmarks.device._outcomes import FAILED, OK, SKIPPED, Outcome
from benchmarks.device._parts import PARTS, TESTS, marked
from benchmarks.device._run_tests import outcomes_of

EVERYTHING = "cuda or not cuda"


def test_every_test_on_a_device_is_in_one_part():
    """No file of tests that run on each device is forgotten, and each part's files exist."""
    named = [file for part in PARTS for file in part.tests]
    here = {path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob(f"{TESTS}/test_*.py")}
    assert sorted(named) == sorted({*here, *marked()})
    assert {part.letter for part in PARTS} == set("abcdefghi")


def test_marked_tests_elsewhere_are_found():
    """A test that is marked cuda belongs to the first part, whichever room it is in."""
    assert "tests/access/test_assign.py" in marked()
    assert not [file for file in marked() if file.startswith(TESTS)]


@pytest.mark.parametrize("part", [p for p in PARTS if p.questions], ids=lambda part: part.letter)
def test_every_question_is_in_the_speed_table(part):
    """What a part asks for are rows that there are."""
    for questions in part.questions:
        found = _process.questions(f"benchmarks.{questions.file}")
        assert asked(found, quick=True, words=questions.words)


def test_what_a_run_on_a_cpu_leaves_out_is_said():
    """Each part says in words what it does without CUDA."""
    assert all(part.off_cuda for part in PARTS)


TESTS_THAT_END_BADLY = """
import os
import pytest

def test_good(record_property):
    record_property("figure", "3 GiB")

def test_bad():
    assert 1 == 2, "one is not two"

@pytest.mark.skip(reason="no device")
def test_left_out():
    pass

@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_anywhere(device):
    assert device == "cpu"

@pytest.fixture
def broken():
    raise OSError("no fixture")

def test_broken(broken):
    pass

def test_that_ends_the_process():
    os._exit(7)

def test_after_it():
    pass
"""


def test_a_crash_takes_only_what_follows(tmp_path, capfd):
    """Each test is told as it ends, with its figure or the reason; the last one by how it died."""
    (tmp_path / "test_some.py").write_text(TESTS_THAT_END_BADLY)
    found = outcomes_of(
        "z", [str(tmp_path / "test_some.py")], device="cpu", marks=EVERYTHING, seconds=120
    )
    assert [(one.check.removeprefix("test_some.py::"), one.result) for one in found] == [
        ("test_good", OK),
        ("test_bad", FAILED),
        ("test_left_out", SKIPPED),
        ("test_anywhere[cpu]", OK),
        ("test_broken", FAILED),
        ("test_that_ends_the_process", FAILED),
    ]
    good, bad, left_out, _, broken, ended = [one.detail for one in found]
    assert (good, left_out, ended) == ("3 GiB", "no device", "its process ended with 7")
    assert "one is not two" in bad
    assert "no fixture" in broken
    printed = capfd.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("(z)")] == [str(one) for one in found]


def test_a_hang_is_given_up(tmp_path):
    """What does not end is ended, with all that it started, and counts as a failure."""
    (tmp_path / "test_some.py").write_text("import time\ntime.sleep(100)\n")
    start = perf_counter()
    (found,) = outcomes_of(
        "z", [str(tmp_path / "test_some.py")], device="cpu", marks=EVERYTHING, seconds=1
    )
    assert (found.part, found.result) == ("z", FAILED)
    assert found.detail.startswith("given up after 1 s")
    assert perf_counter() - start < 20


def test_a_file_that_cannot_be_read_is_a_failure(tmp_path):
    """A file that fails as it is imported is told with its error."""
    (tmp_path / "test_some.py").write_text("raise OSError('no such driver')\n")
    found = outcomes_of(
        "z", [str(tmp_path / "test_some.py")], device="cpu", marks=EVERYTHING, seconds=120
    )
    assert {one.result for one in found} == {FAILED}
    assert any("no such driver" in one.detail for one in found)


OUTCOMES = [
    Outcome("a", "one", OK, "3 GiB/s", 1.0),
    Outcome("a", "two", OK, "", 2.0),
    Outcome("b", "three", FAILED, "NCCL\nsaid no", 3.0),
    Outcome("b", "four", SKIPPED, "no time left"),
]
ROWS = [Ratio("work", "others", 1.0, 2.0, 0.5, 0.5), Missing("more", "peers", "no time left")]
MACHINE = {"device": "cuda: a card", "cpu": "a cpu", "cores": 4, "python": "3.12", "date": "today"}
VERSIONS = {"torch": "2.11.0"}


def test_a_table_counts_and_names():
    """Each part has a line; what failed, was skipped or has a figure is named; then the rows."""
    titles = {"a": "first", "b": "second", "c": "third"}
    text = _outcomes.to_markdown(MACHINE, VERSIONS, titles, OUTCOMES, ROWS)
    lines = text.splitlines()
    assert lines[0] == "cuda: a card, a cpu, 4 cores, torch 2.11.0, Python 3.12, today"
    assert lines[4:7] == [
        "| a | first | 2 | 0 | 0 | 3 |",
        "| b | second | 0 | 1 | 1 | 3 |",
        "| c | third | 0 | 0 | 0 | 0 |",
    ]
    assert "- (a) ok one: 3 GiB/s (1.0 s)" in lines
    assert "- (b) failed three: NCCL said no (3.0 s)" in lines
    assert not [line for line in lines if " two" in line]
    assert "| work | others | 1 s | 2 s | 0.50 | 0.50-0.50 |  |  |" in lines


def test_all_of_it_is_in_the_json():
    """Nothing is lost on the way into the file."""
    fields = json.loads(_outcomes.to_json(MACHINE, VERSIONS, OUTCOMES, ROWS))
    assert [Outcome(**one) for one in fields["outcomes"]] == OUTCOMES
    assert fields["rows"][0]["ours"] == 1.0
    assert (fields["machine"], fields["versions"]) == (MACHINE, VERSIONS)


def test_what_counts_as_a_failure():
    """A failed check, or a question that broke; not what there was no time for."""
    assert _outcomes.failed(OUTCOMES, [])
    assert not _outcomes.failed(OUTCOMES[:2], ROWS)
    assert _outcomes.failed([], [Missing("work", "peers", "it broke", failed=True)])
