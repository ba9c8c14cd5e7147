"""One floor for torch, and one list of versions, wherever they are named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def read(page):
    return " ".join((ROOT / page).read_text().split())


def named(variable):
    """Return a list that noxfile.py holds, as it stands there."""
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            return ast.literal_eval(node.value)
    raise AssertionError(variable)


def floor(name):
    return re.search(rf"{name}>=([\d.]+)", read("pyproject.toml").replace('" ', '"'))[1]


def cells():
    """Yield Python, torch and the rest of each row of the table of what was run."""
    page = (ROOT / "docs/releasing.md").read_text()
    yield from re.findall(r"^\| (\d\.\d+)\.?\d* \| (\d\.\d+)\.?\d* \| (.+) \|$", page, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/releasing.md"])
def test_the_floor_is_the_same_everywhere(page):
    """Pages ask for what the package asks for: the oldest versions of the matrix."""
    torch, python = floor("torch"), named("PYTHONS")[0]
    assert f'requires-python = ">={python}"' in read("pyproject.toml")
    assert named("TORCHES")[0] == torch
    assert f"torch {torch} or newer" in read(page)
    assert f"Python {python} or newer" in read(page)


def test_what_is_said_to_have_been_run_can_be_run_again():
    """Each row of the table names a Python and a torch of the matrix, and a commit."""
    rows = list(cells())
    assert len(rows) >= 4
    pythons, torches = named("PYTHONS"), named("TORCHES")
    newest = max((torch for _, torch, _ in rows), key=lambda text: int(text.split(".")[1]))
    for python, torch, rest in rows:
        assert python in pythons
        assert torch in torches or torch == newest
        assert re.search(r"`[0-9a-f]{7,}`", rest)
