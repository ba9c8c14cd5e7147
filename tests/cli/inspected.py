"""The command as it is called here, and what it prints."""

from __future__ import annotations

import re

from torchcreator.__main__ import main


def inspect(*arguments):
    return main(["inspect", *arguments])


def printed(capsys, *arguments):
    assert inspect(*arguments) == 0
    return capsys.readouterr().out


def table(text):
    """Return the cells of the plain table, by heading, for each row."""
    head, *lines = [re.split(" {2,}", line) for line in text.partition("\n\n")[0].splitlines()]
    return [dict(zip(head, cells, strict=True)) for cells in lines]
