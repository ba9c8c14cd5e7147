"""The command line of the run on a device: what it refuses, writes, and leaves for want of time."""

from __future__ import annotations

import json
import sys
import zipfile
from time import perf_counter

import pytest
import torch

from benchmarks._rows import Missing
from benchmarks.device import __main__ as command
from benchmarks.device import _wheels
from benchmarks.device._outcomes import FAILED, OK, SKIPPED, Outcome
from benchmarks.device._parts import Part, Questions


def wheel(folder, name, **files):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for module, text in files.items():
            archive.writestr(f"{module}.py", text)


def test_wheels_are_imported_first(tmp_path, monkeypatch):
    """What is brought along is found by this process and by those that it starts."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "before")
    wheels, into = tmp_path / "wheels", tmp_path / "into"
    wheels.mkdir()
    wheel(wheels, "brought-1.0-py3-none-any.whl", brought_along="VALUE = 7")
    assert _wheels.unpack(wheels, into) == ["brought-1.0-py3-none-any.whl"]
    import brought_along

    assert brought_along.VALUE == 7
    assert command.os.environ["PYTHONPATH"] == f"{into}{command.os.pathsep}before"


def test_wheels_for_one_machine_are_refused(tmp_path):
    """A wheel with compiled code may be for another machine; an empty folder is a mistake."""
    with pytest.raises(ValueError, match="has no wheels"):
        _wheels.unpack(tmp_path, tmp_path / "into")
    wheel(tmp_path, "fast-1.0-cp312-cp312-linux_x86_64.whl")
    with pytest.raises(ValueError, match=r"fast-1.0\S+ is not pure Python"):
        _wheels.unpack(tmp_path, tmp_path / "into")


def test_what_is_missing_or_too_old_is_named(monkeypatch):
    """A package that the tests need is named as pip wants it, with the version that serves."""
    there = {"pytest": "8.4.1", "hypothesis": "6.100"}

    def version(name):
        if name not in there:
            raise _wheels.importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(_wheels.importlib.metadata, "version", version)
    assert list(_wheels.missing()) == ["pytest>=9", "pytest-timeout>=2.3", "pytest-xdist>=3.6"]
    assert list(_wheels.absent()) == ["safetensors", "transformers"]


def test_everything_needed_is_here():
    """The packages of the development set-up suffice."""
    assert list(_wheels.missing()) == []


MISTAKES = {
    "an unknown part": (["--device", "cpu", "--only", "a", "z"], "no part is called z"),
    "no such folder": (["--device", "cpu", "--json", "/nowhere/x.json"], "its folder does not"),
    "no wheels": (["--device", "cpu", "--wheels", "/nowhere"], "/nowhere has no wheels"),
}


@pytest.mark.parametrize(("argv", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_before_anything_runs(capsys, monkeypatch, argv, says):
    """One line, and the exit status of a usage error."""
    monkeypatch.setattr(command, "outcomes_of", lambda *_, **__: pytest.fail("it ran"))
    assert command.main(argv) == 2
    assert says in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_must_be_there(capsys):
    """Without one, the command says what runs without it."""
    assert command.main([]) == 2
    assert "--device cpu runs what it can" in capsys.readouterr().err


def test_what_is_missing_can_be_brought(capsys, monkeypatch):
    """The line to fetch what is missing is printed ready to be copied."""
    monkeypatch.setattr(command._wheels, "missing", lambda: iter(["pytest>=9"]))
    assert command.main(["--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "pip download --no-deps --only-binary :all: --dest build/wheels 'pytest>=9'" in said


def run_of(monkeypatch, *outcomes, rows=()):
    """Let the command run fakes, and return what they were asked."""
    calls = []

    def tests(part, files, **options):
        calls.append((part, options))
        return [outcome for outcome in outcomes if outcome.part == part]

    def questions(name, **options):
        calls.append((name, options))
        return [row(options) if callable(row) else row for row in rows]

    monkeypatch.setattr(command, "outcomes_of", tests)
    monkeypatch.setattr(command, "answers_of", questions)
    return calls


def test_a_run_writes_what_it_knows_after_each_part(tmp_path, capsys, monkeypatch):
    """A run that is cut short leaves the files of the parts before."""
    outcomes = [Outcome("b", "one", OK), Outcome("f", "two", FAILED, "no")]
    calls = run_of(monkeypatch, *outcomes)
    written = []
    monkeypatch.setattr(command.Run, "write", lambda run: written.append(len(run.outcomes)))
    argv = ["--device", "cpu", "--only", "b", "f", "--json", str(tmp_path / "x.json")]
    assert command.main(argv) == 1
    assert written == [1, 2]
    assert [part for part, _ in calls] == ["b", "f"]
    assert {options["device"] for _, options in calls} == {"cpu"}
    said = capsys.readouterr().out
    assert "Without CUDA:\n(b) NCCL, and gloo beside it: takes gloo for NCCL" in said
    assert "FAILED, after " in said


def test_files_are_written(tmp_path, monkeypatch):
    """Both files say on what the run was."""
    run_of(monkeypatch, Outcome("f", "one", OK, "7"))
    files = [str(tmp_path / name) for name in ("x.json", "x.md")]
    argv = ["--device", "cpu", "--only", "f", "--json", files[0], "--markdown", files[1]]
    assert command.main(argv) == 0
    assert json.loads((tmp_path / "x.json").read_text())["outcomes"][0]["detail"] == "7"
    assert "| f | caching_device | 1 | 0 | 0 | 0 |" in (tmp_path / "x.md").read_text()


def test_no_part_takes_more_than_is_left(monkeypatch):
    """A part gets its own minutes, or what is left of all; one that gets none says so."""
    calls = run_of(monkeypatch)
    run = command.Run("cpu", perf_counter() + 30)
    run.do(Part("b", "first", 10.0, ("tests/x.py",)))
    run.do(Part("c", "second", 0.2, ("tests/x.py",)))
    assert 25 < calls[0][1]["seconds"] <= 30
    assert 8 < calls[1][1]["seconds"] <= 12
    run.deadline = perf_counter() + 1
    run.do(Part("d", "third", 10.0, ("tests/x.py",)))
    assert run.outcomes == [Outcome("d", "third", SKIPPED, "no time left")]


def test_rows_that_the_time_cut_off_are_no_failures(monkeypatch):
    """What was not measured for want of time says so; what broke stays a failure."""

    def cut(options):
        return Missing("a", "b", f"given up after {options['limit']:.0f} s", failed=True)

    broken = Missing("c", "d", "it broke", failed=True)
    run_of(monkeypatch, rows=[cut, broken])
    run = command.Run("cpu", perf_counter() + 60)
    run.do(Part("h", "table", 1.0, questions=(Questions("core", ("scope",)),)))
    assert run.rows == [Missing("a", "b", "no time left"), broken]


def test_questions_share_the_time_that_is_left(monkeypatch):
    """No file of questions takes all of it; what one does not need goes to those after it."""
    calls = run_of(monkeypatch)
    run = command.Run("cpu", perf_counter() + 60)
    run.do(Part("h", "table", 8.0, questions=(Questions("core"), Questions("lookup"))))
    limits = [options["limit"] for _, options in calls]
    assert 25 < limits[0] <= 30
    assert 55 < limits[1] <= 60
