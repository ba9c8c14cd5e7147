"""``torchcreator inspect`` as a process: its terminal, its pipe, and its full disk."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from tests.cli.inspected import printed, table

pytestmark = pytest.mark.usefixtures("models")


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
