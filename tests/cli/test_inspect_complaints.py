"""``torchcreator inspect`` where it cannot: one line that says why, and nothing half written."""

from __future__ import annotations

import pytest

from tests.cli.inspected import inspect
from torchcreator import report

pytestmark = pytest.mark.usefixtures("models")

COMPLAINTS = {
    "no colon": (["modelsfortest"], "'modelsfortest' names no factory: write package.module:"),
    "dots for a colon": (["modelsfortest.Net"], "package.module:factory, modelsfortest:Net"),
    "a file": (["sub/models.py:Net"], "package.module:factory, sub.models:Net"),
    "no attribute": (["modelsfortest:"], "names no factory"),
    "a strange attribute": (["modelsfortest:a-b"], "names no factory"),
    "no such module": (["nosuchmodule:f"], "there is no module 'nosuchmodule'"),
    "no such submodule": (["modelsfortest.sub:f"], "there is no module 'modelsfortest.sub'"),
    "a module that fails": (["brokenfortest:f"], "'brokenfortest' cannot be imported: Module"),
    "a module that is no Python": (["syntaxfortest:f"], "cannot be imported: SyntaxError"),
    "a wrong attribute": (["modelsfortest:Nett"], "has no 'Nett' (did you mean 'Net'?)"),
    "no factory": (["modelsfortest:some"], "is {'no': 'factory'}, neither a factory nor a model"),
    "no JSON": (["modelsfortest:Net", "[2"], "the arguments are not JSON: '[2': Expecting"),
    "a JSON number": (["modelsfortest:Net", "2"], "the arguments are 2: write a JSON list"),
    "too many": (["modelsfortest:Net", "[1, 2, 3]"], "do not fit modelsfortest:Net(width=2, depth"),
    "a wrong keyword": (["modelsfortest:Net", '{"w": 1}'], "unexpected keyword argument 'w'"),
    "arguments for a model": (["modelsfortest:made", "[]"], "it takes no arguments"),
    "raises": (["modelsfortest:raising"], "raised ValueError: first line (/"),
    "raises in torch": (["modelsfortest:Net", "[-1]"], "raised RuntimeError: Trying to create"),
    "exits": (["modelsfortest:leaving"], "raised SystemExit: 7"),
    "cannot be recorded": (["modelsfortest:unbuildable"], "data_ptr of a tensor of shape"),
    "returns no module": (["modelsfortest:number"], "'number' returned 3."),
    "no parameters": (["modelsfortest:empty"], "the model has no parameters"),
    "no match": (["modelsfortest:Net", "--filter", "x"], "--filter 'x' matches no variable"),
    "no column": (["modelsfortest:Net", "--sort", "byte"], "column 'byte' (did you mean 'bytes'?)"),
    "no place": (["modelsfortest:Net", "--html", "no/page.html"], "'no/page.html' cannot be writ"),
    "a directory": (["modelsfortest:Net", "--html", "."], "'.' cannot be written: Is a directory"),
    "nothing before": (["modelsfortest:Net", "--against", "no.json"], "'no.json' cannot be read"),
    "damaged before": (["modelsfortest:Net", "--against", "modelsfortest.py"], "is no inventory"),
    "no dtype": (
        ["modelsfortest:Net", "--dtype", "bf61"],
        "floating dtype (did you mean 'bf16'",
    ),
    "an integer dtype": (["modelsfortest:Net", "--dtype", "int8"], "'int8' is no floating dtype"),
    "no optimizer": (["modelsfortest:Net", "--training", "adan"], "'adan' (did you mean 'adam'?)"),
    "ranks for nothing": (["modelsfortest:Net", "--ranks", "2"], "add --training OPTIMIZER"),
    "JSON against": (["modelsfortest:Net", "--json", "--against", "x"], "print JSON without it"),
}


@pytest.mark.parametrize(("arguments", "complaint"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_what_cannot_be_used_is_one_line(arguments, complaint, capsys, tmp_path):
    """Bad input ends with status 2 and one line; nothing is printed, and no file is written."""
    before = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert inspect(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.replace("the model prints\n", "").splitlines()
    assert line.startswith("torchcreator inspect: error: ")
    assert complaint in line
    after = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert after == before


@pytest.mark.parametrize("depth", ["-1", "x", "1000"])
def test_a_wrong_depth_is_refused(depth, capsys):
    """The parser complains, in one line too."""
    with pytest.raises(SystemExit, match="2"):
        inspect("modelsfortest:Net", f"--depth={depth}")
    assert "is not a whole number from 0 to 999" in capsys.readouterr().err


def test_ctrl_c_is_no_complaint():
    """A factory that is interrupted ends the command with the status that shells expect."""
    assert inspect("modelsfortest:interrupted") == 130


def test_the_page_stays_when_it_cannot_be_written(capsys, tmp_path, monkeypatch):
    """A disk that fills up leaves the page that was there, and no other file."""
    page = tmp_path / "page.html"
    page.write_text("earlier")

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report._files, "write", full)
    assert inspect("modelsfortest:Net", "--html", "page.html") == 2
    assert "'page.html' cannot be written: No space left on device" in capsys.readouterr().err
    assert page.read_text() == "earlier"


def test_an_interrupted_page_is_not_there(tmp_path, monkeypatch):
    """Ctrl-C while the page is made leaves no file."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("torchcreator.report._page.page", interrupted)
    assert inspect("modelsfortest:Net", "--html", "page.html") == 130
    assert not (tmp_path / "page.html").exists()
