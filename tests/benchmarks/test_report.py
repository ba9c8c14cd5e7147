"""What a run is written as, and how two runs compare."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks import _report
from benchmarks._measure import Question, Ratio
from benchmarks._report import Report, UsageError
from benchmarks._rows import Missing, table


def row(ratio=1.0, *, work="work", against="others", low=None, high=None, **others):
    """Return a measured row."""
    return Ratio(work, against, ratio, 1.0, ratio if low is None else low, high or ratio, **others)


def report(*rows, cpu="a processor"):
    """Return a report of these rows."""
    return Report({"cpu": cpu}, {"torch": "2.13.0"}, rows)


def test_a_report_is_read_as_it_was_written(tmp_path):
    """Nothing is lost on the way through a file, rows without figures included."""
    rows = [row(0.5, noise=1.01, at_most=0.7), Missing("work", "x", "x is not installed")]
    written = _report.describe(rows, device="cpu", quick=True)
    _report.write(written, tmp_path / "run.json")
    assert _report.read(tmp_path / "run.json") == written


def test_a_report_says_where_it_comes_from():
    """Machine, versions and date are in it."""
    made = _report.describe([], device="cpu", quick=False)
    assert made.machine["cpu"]
    assert made.machine["cores"] >= 1
    assert made.machine["date"].startswith("20")
    assert {"torch", "torchcreator"} <= set(made.versions)


BAD_FILES = {
    "nothing": (None, "No such file"),
    "not JSON": ("ratio: 1", "not a report"),
    "a list": ("[]", "not a report"),
    "another format": ('{"format": 99}', "of format 99, this reads 1"),
    "no rows": ('{"format": 1, "machine": {}, "versions": {}}', "not a report"),
    "strange rows": ('{"format": 1, "machine": {}, "versions": {}, "rows": [{}]}', "not a report"),
}


@pytest.mark.parametrize(("text", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_is_no_report_is_refused(tmp_path, text, says):
    """A file that was not written by a run is named, in one line."""
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        _report.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_noise_moves_nothing():
    """A difference that the two rows' spreads explain is not reported."""
    old, new = row(1.00, low=0.97, high=1.05), row(1.08, noise=1.04)
    assert _report.explain(report(old), report(new)) == "0 of 1 rows moved beyond noise"


def test_what_is_larger_than_noise_moved():
    """The row that moved is named, with both figures and what noise would explain."""
    said = _report.explain(
        report(row(1.0), row(2.0, work="b")), report(row(1.2), row(1.5, work="b"))
    )
    assert said.splitlines() == [
        "slower: work, against others: 1.00 -> 1.20 (noise explains a factor of 1.04)",
        "faster: b, against others: 2.00 -> 1.50 (noise explains a factor of 1.04)",
        "2 of 2 rows moved beyond noise",
    ]


@pytest.mark.parametrize("way", [1, -1], ids=["to a slower one", "to a faster one"])
def test_both_directions_are_judged_alike(way):
    """Swapping the two reports swaps the words, not the judgement."""
    reports = [report(row(1.0, high=1.3)), report(row(1.32))][::way]
    assert _report.explain(*reports).endswith("0 of 1 rows moved beyond noise")


def test_rows_of_one_report_only_are_named():
    """What was measured once can not have moved, and is said."""
    said = _report.explain(report(row(work="a")), report(row(work="b", size=10_000.0)))
    assert said.splitlines() == [
        "only in the old report: a, against others",
        "only in the new report: b, against others, at 10,000",
        "0 of 0 rows moved beyond noise",
    ]


def test_another_machine_is_named():
    """Ratios of two machines are compared, with a word of warning."""
    said = _report.explain(report(row(), cpu="one"), report(row(), cpu="another"))
    assert "other machine: one -> another" in said


def test_sizes_are_rows_of_their_own():
    """The points of a curve are not mistaken for each other."""
    old = report(row(1.0, size=1.0), row(2.0, size=2.0))
    assert [change.old for change in _report.changes(old, old)] == [1.0, 2.0]


def test_the_table_names_what_was_not_measured():
    """A row without a figure stands below the table, with its reason; an error is marked."""
    lines = table(
        [
            row(0.5, noise=1.02, at_most=0.75),
            Missing("a", "x", "no x"),
            Missing("b", "y", "broke", True),
        ]
    ).splitlines()
    assert lines[2] == "| work | others | 500 ms | 1 s | 0.50 | 0.50-0.50 | 1.02 | 0.75 |"
    assert lines[-2:] == ["- a, against x: no x", "- b, against y: FAILED: broke"]


def test_the_first_page_shows_who_else_does_the_work():
    """A headline names its own peer, and beside it all others of the same work."""
    rows = [
        row(1.5, noise=1.0, at_most=2.0),
        row(0.03, against="Keras"),
        row(0.5, against="TensorFlow"),
        Missing("work", "Haiku", "not installed"),
        row(7.0, work="other work"),
    ]
    asked = [
        Question(work, against, lambda seconds: pytest.fail("it measured"), at_most=2.0)
        for work, against in [("work", "others"), ("lost work", "someone")]
    ]
    shown = _report.headlines(rows, asked).splitlines()
    assert shown[2:] == [
        "| work | others | 1.50 [1.00] | 2.00 | Keras 0.03; TensorFlow 0.50 |",
        "| lost work | someone | not measured | 2.00 |  |",
    ]


def test_rows_are_lines_of_json():
    """A row is one line, so that a crash can spoil only the last one."""
    from benchmarks._rows import from_dict, to_json

    one = dataclasses.replace(row(), work="`a`\n×")
    assert "\n" not in to_json(one)
    assert from_dict(json.loads(to_json(one))) == one
