"""``torchcreator inspect``: what it prints, where, and what it says where it cannot."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from torchcreator import report
from torchcreator.__main__ import main

SOURCE = '''
"""Models for the command to find."""

import torch
from torch import nn

import torchcreator as tc


class Net(nn.Module):
    def __init__(self, width=2, depth=2):
        super().__init__()
        print("the model prints")
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        with tc.creator_scope(tc.creators.freeze()):
            self.head = nn.Linear(width, 1)


class Holder:
    Net = Net


def tied():
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    model[1].weight = model[0].weight
    return model


def raising():
    raise ValueError("first line\\nsecond line")


def leaving():
    raise SystemExit(7)


def interrupted():
    raise KeyboardInterrupt


def unbuildable():
    return nn.Linear(2, 2).weight.data_ptr()


def number():
    return 3


def empty():
    return nn.ReLU()


def colourful():
    model = nn.Module()
    model.register_parameter("[red]x[/red]\\x1b[31m", nn.Parameter(torch.ones(1)))
    return model


made = nn.Linear(2, 2)
some = {"no": "factory"}
'''


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """Put modules into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "modelsfortest.py").write_text(SOURCE)
    (tmp_path / "brokenfortest.py").write_text("import nosuchpackage\n")
    (tmp_path / "syntaxfortest.py").write_text("def (:\n")
    yield
    for name in ("modelsfortest", "brokenfortest", "syntaxfortest"):
        sys.modules.pop(name, None)


def inspect(*arguments):
    return main(["inspect", *arguments])


def printed(capsys, *arguments):
    assert inspect(*arguments) == 0
    return capsys.readouterr().out


def table(text):
    """Return the cells of the plain table, by heading, for each row."""
    head, *lines = text.partition("\n\n")[0].splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    rows = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines]
    return [dict(zip(head.split(), row, strict=True)) for row in rows]


def test_a_pipe_gets_plain_text_with_every_column(capsys):
    """One aligned line for each variable, a dash for what is empty, then the totals."""
    rows = table(printed(capsys, "modelsfortest:Net"))
    assert [row["name"] for row in rows] == [
        *("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"),
        *("head.weight", "head.bias"),
    ]
    assert list(rows[0].values()) == [
        *("layers.0.weight", "2x2", "float32", "cpu", "16", "yes"),
        *("-", "AUTO", "NONE", "-", "-", "-", "-"),
    ]
    assert rows[-1]["creators"] == "freeze(): trainable True -> False"
    assert rows[-1]["trainable"] == "no"


def test_what_the_model_prints_is_not_in_the_output(capsys):
    """It goes to standard error, so that the output can be read by programs."""
    assert inspect("modelsfortest:Net", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == "the model prints\n"
    assert json.loads(captured.out)["model"] == "modelsfortest:Net"


@pytest.mark.parametrize(
    ("arguments", "elements"),
    [
        ([], 15),
        (["[3]"], 28),
        (["[3, 1]"], 16),
        (['{"depth": 1}'], 9),
        (["{}"], 15),
    ],
    ids=str,
)
def test_arguments_are_json(arguments, elements, capsys):
    """A list is positional, an object is keywords."""
    document = json.loads(printed(capsys, "modelsfortest:Net", *arguments, "--json"))
    assert document["totals"]["elements"] == elements


def test_attributes_and_models_are_found(capsys):
    """A path may go through attributes, and may lead to a model that is made already."""
    assert len(table(printed(capsys, "modelsfortest:Holder.Net"))) == 6
    assert len(table(printed(capsys, "modelsfortest:made"))) == 2
    assert table(printed(capsys, "modelsfortest:tied"))[0]["ties"] == "1.weight"


def test_depth_filter_sort_and_reverse(capsys):
    """The rows are chosen and ordered, and the totals go as deep as asked."""
    text = printed(capsys, "modelsfortest:Net", "--depth", "2", "--filter", "layers.*")
    assert re.search(r"^  layers.1 +2 +6 +24 ", text, re.MULTILINE)
    assert not re.search("^head", text, re.MULTILINE)
    assert "layers" not in printed(capsys, "modelsfortest:Net", "--depth", "0").partition("\n\n")[2]
    arguments = ("modelsfortest:Net", "--sort", "bytes")
    ascending = [int(row["bytes"]) for row in table(printed(capsys, *arguments))]
    assert ascending == sorted(ascending)
    descending = [int(row["bytes"]) for row in table(printed(capsys, *arguments, "--reverse"))]
    assert descending == ascending[::-1]
    reverse = table(printed(capsys, "modelsfortest:Net", "--reverse"))
    assert reverse[0]["name"] == "head.bias"
    document = json.loads(
        printed(capsys, "modelsfortest:Net", "--json", "--filter", "*.bias", "--depth", "2")
    )
    assert [v["name"].endswith("bias") for v in document["variables"]] == [True] * 3
    assert len(document["totals"]["by_module"]) == 5


def test_a_page_is_written_and_said(capsys, tmp_path):
    """``--html`` writes the page, and one line says what is in it."""
    assert printed(capsys, "modelsfortest:Net", "--html", "page.html") == (
        "page.html: 6 variables, 60 B\n"
    )
    page = (tmp_path / "page.html").read_text()
    assert "layers.1.weight" in page
    json.loads(printed(capsys, "modelsfortest:Net", "--html", "page.html", "--json"))


def test_an_earlier_document_is_compared(capsys, tmp_path):
    """``--against`` prints what differs, or hands it to the page."""
    (tmp_path / "before.json").write_text(printed(capsys, "modelsfortest:Net", "[2, 1]", "--json"))
    assert printed(capsys, "modelsfortest:Net", "--against", "before.json").splitlines() == [
        "+ layers.1.weight  2x2  float32",
        "+ layers.1.bias  2  float32",
        "2 added, 0 removed, 0 changed; 36 B -> 60 B",
    ]
    inspect("modelsfortest:Net", "--html", "page.html", "--against", "before.json")
    with_before = (tmp_path / "page.html").read_text()
    inspect("modelsfortest:Net", "--html", "page.html")
    assert len(with_before) > len((tmp_path / "page.html").read_text())


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
    "cannot be recorded": (["modelsfortest:unbuildable"], "data_ptr cannot be recorded"),
    "returns no module": (["modelsfortest:number"], "'number' returned 3."),
    "no parameters": (["modelsfortest:empty"], "the model has no parameters"),
    "no match": (["modelsfortest:Net", "--filter", "x"], "--filter 'x' matches no variable"),
    "no column": (["modelsfortest:Net", "--sort", "byte"], "column 'byte' (did you mean 'bytes'?)"),
    "no place": (["modelsfortest:Net", "--html", "no/page.html"], "'no/page.html' cannot be writ"),
    "a directory": (["modelsfortest:Net", "--html", "."], "'.' cannot be written: Is a directory"),
    "nothing before": (["modelsfortest:Net", "--against", "no.json"], "'no.json' cannot be read"),
    "damaged before": (["modelsfortest:Net", "--against", "modelsfortest.py"], "is no inventory"),
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


def started(*arguments, stdout, tmp_path):
    code = f"import sys; sys.path[0] = {str(tmp_path)!r}\n"
    code += "from torchcreator.__main__ import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, "inspect", *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110
def test_an_output_that_cannot_be_written_is_said(tmp_path):
    """A full disk behind standard output is one line, and status 2."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = started("modelsfortest:made", stdout=full, tmp_path=tmp_path)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == (
        "torchcreator inspect: error: the output cannot be written: No space left on device\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    """``| head`` closes the pipe: the command ends without a word."""
    read, write = os.pipe()
    process = started("modelsfortest:made", stdout=write, tmp_path=tmp_path)
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


def on_a_terminal(tmp_path, *arguments, width=100):
    """Return what the command shows on a terminal of that width, colours taken out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    process = started(*arguments, stdout=theirs, tmp_path=tmp_path)
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        shown += read
    os.close(ours)
    assert process.wait(120) == 0, process.stderr.read()
    process.stderr.close()
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_a_table_that_fits(tmp_path):
    """Columns that say nothing are left out, and creators have a table of their own."""
    shown = on_a_terminal(tmp_path, "modelsfortest:Net")
    assert "\x1b[1m" in shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].split() == ["name", "shape", "bytes", "trainable", "creators"]
    assert "dtype float32, device cpu" in lines
    creators = lines[lines.index(next(line for line in lines if " changed" in line)) + 2]
    assert creators.split("  ")[0].strip() == "freeze()"
    assert "trainable True -> False" in creators
    assert "head.weight, head.bias" in creators
    assert any(line.startswith("total ") for line in lines)


def test_no_name_colours_a_terminal(tmp_path):
    """Neither rich's markup nor an escape in a name is obeyed."""
    shown = on_a_terminal(tmp_path, "modelsfortest:colourful")
    assert r"[red]x[/red]\x1b[31m" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[31m" not in shown


def test_a_terminal_without_rich_gets_plain_text(capsys, monkeypatch):
    """It is an extra: without it the plain table does."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert len(table(printed(capsys, "modelsfortest:Net"))) == 6


def test_an_interrupted_page_is_not_there(tmp_path, monkeypatch):
    """Ctrl-C while the page is made leaves no file."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("torchcreator.report._page.page", interrupted)
    assert inspect("modelsfortest:Net", "--html", "page.html") == 130
    assert not (tmp_path / "page.html").exists()
