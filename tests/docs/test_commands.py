"""Every call of ``torchcreator`` that a page shows runs as it is shown."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from tests.docs.test_docs import FENCE, PAGES, README, title
from torchcreator.__main__ import main

INLINE = re.compile(r"`(torchcreator inspect [a-z][^`]*)`")


def commands(page):
    """Return what a page shows, in order: lines of its blocks, then what its text quotes."""
    text = page.read_text()
    blocks = [block for language, block in FENCE.findall(text) if language == "bash"]
    lines = [line for block in blocks for line in block.splitlines()]
    shown = [line for line in lines if line.startswith("torchcreator ")]
    return shown + [line.replace("\n", " ") for line in INLINE.findall(FENCE.sub("", text))]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=title)
def test_commands_run(page, tmp_path, monkeypatch):
    """A page's commands run one after the other in an empty folder."""
    monkeypatch.chdir(tmp_path)
    if "transformers" in str(commands(page)):
        pytest.importorskip("transformers")
    for command in commands(page):
        words, _, file = command.partition(" > ")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(shlex.split(words)[1:]) == 0, command
        if file:
            Path(file).write_text(printed.getvalue())
        else:
            assert printed.getvalue()


CONSOLE = re.compile(
    r"^```console\n\$ \.venv/bin/torchcreator ([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


def test_the_console_of_the_readme_is_what_is_printed(tmp_path, monkeypatch):
    """What stands below the README's command is how its output begins."""
    monkeypatch.chdir(tmp_path)
    ((command, shown),) = CONSOLE.findall(README.read_text())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(shlex.split(command)) == 0
    lines = [line for line in printed.getvalue().splitlines() if line]
    assert lines[: shown.count("\n")] == shown.splitlines()
    assert (tmp_path / "page.html").exists()
