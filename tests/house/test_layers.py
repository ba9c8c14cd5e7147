"""The layers are the same where `lint-imports` reads them and where people do."""

from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
ROOT = Path(__file__).parents[2]


def kept() -> list[set[str]]:
    """Return the layers that `lint-imports` keeps, the upper ones first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = config["tool"]["importlinter"]["contracts"]
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def in_the_table() -> list[set[str]]:
    """Return the layers in the table of the page on architecture, the upper ones first."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.split("## Rooms")[1].split("## ")[0]
    rows = re.findall(r"^\|[^|]*\|([^|]*`[^|]*)\|", table, re.MULTILINE)
    return [set(re.findall(r"`(\w+)/?`", part)) for row in rows for part in row.split(";")]


def in_the_diagram() -> list[str]:
    """Return what the diagram for contributors names, the upper layers first."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    diagram = page.split("```text")[1].split("```")[0]
    return [name for line in diagram.splitlines() for name in re.findall(r"\w+", line[:27])]


def test_the_table_has_every_layer():
    """The page on architecture has every module that `lint-imports` knows, in its order."""
    assert in_the_table() == kept()


def test_the_diagram_agrees():
    """The diagram for contributors leaves modules out, but invents none and keeps their order."""
    place = {name: number for number, layer in enumerate(kept()) for name in layer}
    found = in_the_diagram()
    assert set(found) <= set(place)
    assert [place[name] for name in found] == sorted(place[name] for name in found)


def test_the_drawing_has_every_room():
    """The drawing shows the rooms that `lint-imports` knows, line by line, in its order."""
    drawing = (ROOT / "docs" / "images" / "rooms.svg").read_text()
    drawn: dict[int, set[str]] = {}
    for y, name in re.findall(r'class="code" x="[\d.]+" y="(\d+)">(\w+)<', drawing):
        drawn.setdefault(int(y), set()).add(name)
    assert [drawn[y] for y in sorted(drawn)] == kept()


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_is_there(page):
    """What a page calls a file of a room is one."""
    rooms = "|".join(sorted(name for line in kept() for name in line))
    named = set(re.findall(rf"`((?:{rooms})/\w+)", (ROOT / page).read_text()))
    assert named
    package = ROOT / "torchcreator"
    missing = [name for name in named if not list(package.glob(f"{name}*"))]
    assert missing == []


def test_no_circle_of_files():
    """No file imports, at whatever remove, one that imports it; nor for its types alone.

    The face is left out: its imports are for type checkers, and load nothing.
    """
    graph = grimp.build_graph("torchcreator", exclude_type_checking_imports=False, cache_dir=None)
    for shown in graph.find_modules_directly_imported_by("torchcreator"):
        graph.remove_import(importer="torchcreator", imported=shown)
    circular = {
        name
        for name in graph.modules
        for needed in graph.find_modules_directly_imported_by(name)
        if graph.chain_exists(needed, name)
    }
    assert len(graph.modules) > 100
    assert circular == set()
