"""The command that asks all questions."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import _process, _report, _run
from benchmarks._measure import Ratio
from benchmarks._rows import Missing
from benchmarks.growth import __main__ as growth

ROOT = Path(__file__).parent.parent.parent
FAKES = "tests.benchmarks.questions"
GROWTH = [f"benchmarks.growth.{curve.module}" for curve in growth.CURVES]
FILES = [*(f"benchmarks.{name}" for name in command.FILES), *GROWTH]


def fake_rows(*names):
    """Return a row for each question of these files, each with the ratio 1."""
    return [
        Ratio(asked.work, asked.against, 1.0, 1.0, 0.99, 1.01, 1.0, asked.at_most, size=asked.size)
        for name in names
        for asked in _process.questions(name)
    ]


def test_a_crash_takes_only_what_was_not_measured(capfd):
    """What a file measured before its process died is kept, and the rest says how it ended."""
    rows = _process.answers_of(FAKES, quick=False)
    assert isinstance(rows[0], Ratio)
    assert rows[1:] == [
        Missing(
            "work with a peer", "a library that nobody has", "nobody_has_this is not installed"
        ),
        Missing("broken work", "nothing", "RuntimeError: it broke", failed=True),
        Missing("work that ends the process", "anything", "its process ended with 7", failed=True),
        Missing("work after it", "anything", "its process ended with 7", failed=True),
    ]
    assert "[1/5] quick work | the same: " in capfd.readouterr().err


def test_a_file_that_hangs_is_given_up():
    """After its time, the rows that are left say so."""
    rows = _process.answers_of(FAKES, quick=True, limit=0.01)
    assert len(rows) == 4  # a quick run leaves one out
    assert rows[-1].reason == "given up after 0 s"


def test_one_file_prints_the_rows_with_these_words(capsys, monkeypatch):
    """Alone, a file measures the rows that contain all the words, and prints its own table."""
    monkeypatch.setattr(sys, "argv", ["questions", "work", "nobody", "--quick"])
    _run.main(_process.questions(FAKES))
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].endswith("nobody_has_this is not installed")
    assert "quick work" not in printed.out + printed.err


@pytest.mark.parametrize("name", FILES)
def test_questions_can_be_listed_where_no_peer_is(name):
    """Each file says what it asks without measuring, importing or needing anything."""
    asked = _process.questions(name)
    keys = [(one.work, one.against, one.size) for one in asked]
    assert len(set(keys)) == len(keys) > 0
    assert hasattr(importlib.import_module(name), "main")


def test_every_file_with_questions_is_asked():
    """No file of questions is forgotten."""
    here = ROOT / "benchmarks"
    found = {path.stem for path in here.glob("*.py") if "QUESTIONS = [" in path.read_text()}
    assert found == set(command.FILES)
    curves = {
        path.stem for path in (here / "growth").glob("*.py") if "QUESTIONS" in path.read_text()
    }
    assert curves == {curve.module for curve in growth.CURVES}


def test_the_readme_shows_the_rows_that_the_command_prints():
    """The README's table has the command's rows and promises, and figures that keep them."""
    asked = command.headlines()
    wanted = _report.headlines([], asked).splitlines()
    readme = (ROOT / "README.md").read_text()
    shown = readme.split(command.START)[1].split(command.END)[0].strip().splitlines()
    assert [promised(line) for line in shown] == [promised(line) for line in wanted]
    assert 1 <= len(asked) <= 8
    kept = [line.split("|")[3:5] for line in shown[2:]]
    assert all(float(ratio.split()[0]) <= float(at_most) for ratio, at_most in kept)


def promised(line):
    """Return a line of the table without what is measured."""
    work, against, _, at_most, _ = re.split(r" ?\| ?", line)[1:6]
    return work, against, at_most


def test_a_run_writes_its_table_between_the_marks():
    """The rest of the page stays as it was, and a second time changes nothing."""
    page = f"a\n{command.START}\nold\n{command.END}\nb\n"
    once = command.with_table(page, "| new |")
    assert once == f"a\n{command.START}\n| new |\n{command.END}\nb\n"
    assert command.with_table(once, "| new |") == once


def test_a_page_without_marks_is_refused():
    """Nothing is written where nobody knows."""
    with pytest.raises(_report.UsageError, match="the README has no"):
        command.with_table("a\n", "| new |")


MISTAKES = {
    "unknown file": (["--only", "core", "speed"], "nothing is called speed; there are core, "),
    "unknown device": (["--device", "tpu"], "--device is cpu or cuda, not 'tpu'"),
    "no folder": (["--json", "nowhere/run.json"], "nowhere/run.json: its folder does not exist"),
    "no such report": (["--compare", "nowhere.json"], "nowhere.json: No such file or directory"),
    "three reports": (["--compare", "a", "b", "c"], "--compare takes one file or two, not 3"),
    "part of the README": (["--readme", "--only", "core"], "--readme needs all rows"),
    "nothing to read": (["--from", "nowhere.json"], "nowhere.json: No such file or directory"),
}


@pytest.mark.parametrize(("argv", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(argv, says, capsys, monkeypatch):
    """What cannot be is said before anything is measured, and the status is 2."""
    monkeypatch.setattr(command, "answers_of", lambda *_, **__: pytest.fail("it measured"))
    assert command.main(argv) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said(capsys):
    """Without a CUDA device, the option says so."""
    assert command.main(["--device", "cuda"]) == 2
    assert "sees no CUDA device here" in capsys.readouterr().err


def test_a_run_prints_and_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    """Tables go to stdout, all figures into the file, progress to stderr; a failure is status 1."""
    asked = []

    def answers(name, **options):
        asked.append((name, options))
        return [*fake_rows(name), Missing("a", "b", "broke", failed=name.endswith("lookup"))]

    monkeypatch.setattr(command, "answers_of", answers)
    path = tmp_path / "run.json"
    assert command.main(["--only", "plugin", "core", "--quick", "--json", str(path)]) == 0
    printed = capsys.readouterr()
    assert [name for name, _ in asked] == ["benchmarks.core", "benchmarks.plugin"]
    assert asked[0][1] == {"quick": True, "device": "cpu"}
    assert printed.err.splitlines() == ["core (1 of 2)", "plugin (2 of 2)"]
    assert "| `variable(z)` without a scope |" in printed.out
    assert json.loads(path.read_text())["machine"]["quick"] is True
    assert command.main(["--only", "lookup"]) == 1


def test_two_reports_are_compared_without_measuring(tmp_path, capsys, monkeypatch):
    """With two files, nothing is measured; with one, now is compared with then."""
    monkeypatch.setattr(command, "answers_of", lambda name, **_: fake_rows(name))
    path = tmp_path / "run.json"
    command.main(["--only", "core", "--json", str(path)])
    capsys.readouterr()
    assert command.main(["--only", "core", "--compare", str(path)]) == 0
    assert capsys.readouterr().out.endswith("rows moved beyond noise\n")
    monkeypatch.setattr(command, "answers_of", lambda *_, **__: pytest.fail("it measured"))
    assert command.main(["--compare", str(path), str(path)]) == 0
    assert capsys.readouterr().out.startswith("0 of ")


def test_a_report_becomes_the_readme(tmp_path, capsys, monkeypatch):
    """What was measured once is written into the page without measuring again."""
    monkeypatch.setattr(command, "answers_of", lambda name, **_: fake_rows(name))
    path = tmp_path / "run.json"
    command.main(["--json", str(path)])
    monkeypatch.setattr(command, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"# a\n{command.START}\n{command.END}\n")
    assert command.main(["--from", str(path), "--readme"]) == 0
    written = (tmp_path / "README.md").read_text()
    assert written.count("| 1.00 [1.00] |") == len(command.headlines())


def test_growth_says_what_is_missing(tmp_path, capsys, monkeypatch):
    """Without matplotlib, or a folder for the pictures, nothing is measured."""
    monkeypatch.setattr(growth, "answers_of", lambda *_, **__: pytest.fail("it measured"))
    monkeypatch.setattr(growth.importlib.util, "find_spec", lambda name: None)
    assert growth.main([]) == 2
    assert "matplotlib draws the pictures" in capsys.readouterr().err
    monkeypatch.setattr(growth.importlib.util, "find_spec", lambda name: name)
    assert growth.main(["--into", str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_growth_draws_what_it_measured(tmp_path, monkeypatch):
    """Each curve is one picture, drawn from its own rows, the same bytes each time."""
    pytest.importorskip("matplotlib", reason="matplotlib draws the pictures")
    monkeypatch.setattr(growth, "answers_of", lambda name, **_: fake_rows(name))
    run = tmp_path / "run.json"
    assert growth.main(["--into", str(tmp_path), "--json", str(run)]) == 0
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(drawn) == {f"{curve.module}.svg" for curve in growth.CURVES}
    assert growth.main(["--into", str(tmp_path), "--from", str(run)]) == 0
    assert drawn == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}


def test_every_picture_of_the_page_is_a_curve():
    """The page about benchmarks shows all curves, and no others."""
    shown = re.findall(r"images/benchmarks/(\w+)\.svg", (ROOT / "docs/benchmarks.md").read_text())
    assert shown == [curve.module for curve in growth.CURVES]


def test_the_page_names_every_file():
    """The page about benchmarks says what each file asks."""
    page = (ROOT / "docs/benchmarks.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(command.FILES)
