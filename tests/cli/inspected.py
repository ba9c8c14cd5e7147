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
    head, *lines = text.partition("\n\n")[0].splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    rows = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines]
    return [dict(zip(head.split(), row, strict=True)) for row in rows]
