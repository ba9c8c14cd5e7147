"""An inventory is sorted, filtered, added up, kept, compared and shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.report.models import Hostile, Scoped, Tied, frozen
from torchcreator.report import _files
from torchcreator.report._text import printable, size

GUIDE = Path(__file__).parents[2] / "docs/guides/inspecting.md"


def model():
    made = nn.ModuleDict(
        {
            "body": nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(11))),
            "head": nn.Linear(2, 5).half(),
        }
    )
    made["head"].bias.requires_grad_(False)
    made.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
    return made


def names(inventory):
    return [row.name for row in inventory]


def test_filtering_takes_globs_of_any_name():
    """``*`` matches dots, a dot before the name is optional, and ties are found."""
    assert names(tc.inspect(model()).matching("*.bias")) == ["head.bias"]
    assert names(tc.inspect(nn.Linear(2, 2)).matching("*.bias")) == ["bias"]
    assert names(tc.inspect(Tied()).matching("head.w*")) == ["embedding.weight"]
    assert len(tc.inspect(model()).matching("nothing")) == 0


@pytest.mark.parametrize(
    ("column", "first", "last"),
    [
        ("name", "body.0.weight", "head.weight"),
        ("bytes", "body.0.weight", "head.weight"),
        ("elements", "body.0.weight", "head.weight"),
        ("shape", "body.0.weight", "head.weight"),
        ("dtype", "head.weight", "body.10.weight"),
        ("trainable", "head.bias", "head.weight"),
        ("constraint", "body.0.weight", "head.bias"),
    ],
)
def test_sorting_is_by_meaning(column, first, last):
    """Numbers in names, sizes and shapes are compared as numbers; equal rows keep their order."""
    inventory = tc.inspect(model())
    ordered = inventory.ordered(column)
    found = names(ordered)
    if column in ("bytes", "elements"):
        assert [getattr(r, "nbytes" if column == "bytes" else column) for r in ordered] == sorted(
            r.nbytes if column == "bytes" else r.elements for r in inventory
        )
    else:
        assert (found[0], found[-1]) == (first, last)
    assert sorted(found) == sorted(names(inventory))
    turned = inventory.ordered(column, reverse=True)
    assert sorted(names(turned)) == sorted(found)


def test_layers_are_counted_not_spelt():
    """Layer 2 comes before layer 10."""
    found = names(tc.inspect(model()).ordered("name"))
    assert found.index("body.2.weight") < found.index("body.10.weight")


def test_an_unknown_column_is_refused():
    """The error has the nearest column."""
    with pytest.raises(ValueError, match=r"no column 'byte' \(did you mean 'bytes'\?\)"):
        tc.inspect(model()).ordered("byte")


def test_totals_are_by_module_dtype_and_trainability():
    """Each grouping adds up; a module has what is inside it, and a tie counts once."""
    totals = tc.inspect(model()).totals(depth=2)
    assert (totals["variables"], totals["elements"], totals["bytes"]) == (13, 59, 206)
    assert (totals["trainable_elements"], totals["trainable_bytes"]) == (54, 196)
    modules = {entry["module"]: entry["bytes"] for entry in totals["by_module"]}
    assert modules[""] == 206
    assert (modules["body"], modules["head"]) == (176, 30)
    assert modules["body.7"] == 16
    assert len(modules) == 1 + 2 + 11
    assert {e["dtype"]: e["elements"] for e in totals["by_dtype"]} == {"float32": 44, "float16": 15}
    assert {e["trainable"]: e["variables"] for e in totals["by_trainable"]} == {True: 12, False: 1}
    assert [e["module"] for e in tc.inspect(model()).totals(depth=0)["by_module"]] == [""]
    assert tc.inspect(Tied()).totals()["elements"] == 50


def test_names_and_places_lead_to_rows():
    """A row is found by any of its names or its place; a wrong name says the nearest."""
    inventory = tc.inspect(Tied())
    assert [inventory[place] for place in range(len(inventory))] == list(inventory)
    assert inventory[-1] is inventory.rows[-1]
    with pytest.raises(IndexError, match="out of range"):
        inventory[len(inventory)]
    assert inventory["head.weight"].name == "embedding.weight"
    with pytest.raises(KeyError, match=r"'head.wait' \(did you mean 'head.weight'\?\)"):
        inventory["head.wait"]


def keys_of(table):
    """Return the keys that a table of the guide documents."""
    text = GUIDE.read_text().partition(f"<!-- {table} -->")[2].partition("\n\n#")[0]
    rows = text.partition("\n| --- ")[2].splitlines()[1:]
    cells = [row.split("|")[1] for row in rows if row.startswith("|")]
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def test_a_row_is_found_by_its_place():
    """``inventory[0]`` as a ledger does it."""
    inventory = tc.inspect(nn.Linear, 2, 3)
    assert inventory[0] is inventory["weight"]
    assert inventory[-1] is inventory["bias"]
    with pytest.raises(IndexError, match="out of range"):
        inventory[2]


def test_the_document_is_as_documented():
    """Every key of the JSON is in the guide's tables, and every key there is in the JSON."""
    with tc.creator_scope(frozen):
        document = json.loads(tc.inspect(Scoped).json())
    assert keys_of("document") == set(document)
    assert keys_of("variables") == {key for row in document["variables"] for key in row}
    creators = [creator for row in document["variables"] for creator in row["creators"]]
    assert keys_of("creators") == {key for creator in creators for key in creator}
    totals = document["totals"]
    groups = ("by_module", "by_dtype", "by_trainable")
    assert keys_of("totals") == set(totals)
    for group in groups:
        column = group.removeprefix("by_")
        assert set(totals[group][0]) == {column, "variables", "elements", "bytes"}


def test_the_document_has_plain_values_of_one_type():
    """Each column of the document has the type that is documented, whatever the variable."""
    kinds = {
        **dict.fromkeys(("name", "module", "module_type", "dtype", "device"), str),
        **dict.fromkeys(("synchronization", "aggregation"), str),
        **dict.fromkeys(("elements", "bytes", "local_bytes"), int),
        **dict.fromkeys(("trainable", "declared"), bool),
        **dict.fromkeys(("ties", "creators"), list),
        **dict.fromkeys(("constraint", "placements"), (str, type(None))),
        "shape": (list, type(None)),
        "tags": dict,
    }
    for given in (Scoped, Tied, lambda: nn.LazyLinear(2)):
        for row in json.loads(tc.inspect(given).json())["variables"]:
            assert row.keys() == kinds.keys()
            assert all(isinstance(row[key], kind) for key, kind in kinds.items())
    assert tc.inspect(Scoped)["gain"].document()["tags"] == {"decay": "False"}


def test_plain_text_is_aligned_and_harmless():
    """Columns stand below each other, and control characters are escapes."""
    text = str(tc.inspect(Hostile))
    assert text.splitlines()[1].startswith(r"<script>alert('\x1b[31m')</script>\n  1 ")
    assert text.isascii()
    lines = str(tc.inspect(Scoped)).partition("\n\n")[0].splitlines()
    start = lines[0].index("dtype")
    assert {line[start : start + 8] for line in lines[1:]} == {"float32 "}


def test_the_text_ends_with_totals():
    """Modules are indented by their depth, buffers and bytes are told."""
    text = str(tc.inspect(model()))
    assert re.search(r"^total +13 +59 +206 +206 B$", text, re.MULTILINE)
    assert re.search(r"^not trainable +1 +5 +10 +10 B$", text, re.MULTILINE)
    assert text.endswith("and 1 buffers, 24 B")
    assert repr(tc.inspect(model())) == "<Inventory of ModuleDict: 13 variables, 206 bytes>"


def test_sizes_are_told_in_units():
    """A size has two to four digits and its unit."""
    assert [size(n) for n in (0, 1023, 1024, 1536, 150 * 2**20, 2**40)] == [
        *("0 B", "1023 B", "1.0 KiB", "1.5 KiB", "150 MiB", "1.0 TiB")
    ]
    assert printable("a\tb") == r"a\tb"


def test_differences_are_told_by_name():
    """What was added, removed and changed has a line each, with before and after."""
    before = tc.inspect(lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False)))
    with tc.creator_scope(frozen):
        after = tc.inspect(lambda: nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)))
    assert after.difference(before).splitlines() == [
        "+ 1.bias  1  float32",
        "~ 0.weight  shape 3x2 -> 4x2, bytes 24 -> 32, trainable True -> False",
        "~ 0.bias  shape 3 -> 4, bytes 12 -> 16, trainable True -> False",
        "~ 1.weight  shape 1x3 -> 1x4, bytes 12 -> 16, trainable True -> False",
        "1 added, 0 removed, 3 changed; 48 B -> 68 B",
    ]
    assert before.difference(after.document()).splitlines()[0] == "- 1.bias  1  float32"
    assert after.difference(after) == "0 added, 0 removed, 0 changed; 68 B -> 68 B"


def test_a_page_is_written_and_compared(tmp_path):
    """`html` writes one file, with another inventory, document or file before it."""
    inventory = tc.inspect(Scoped)
    kept = tmp_path / "before.json"
    kept.write_text(inventory.json())
    page = tmp_path / "page.html"
    for before in (None, inventory, inventory.document(), kept, str(kept)):
        inventory.html(page, before=before)
        assert page.read_text().startswith("<!doctype html>")
        assert "second.weight" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.json", "page.html"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """What fails half-way leaves what was there; a link and its permissions stay."""
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    _files.write(path, "first")
    path.chmod(0o640)
    link.symlink_to(path)
    _files.write(link, "second \ud800")
    assert link.is_symlink()
    assert path.read_text() == r"second \ud800"
    assert path.stat().st_mode & 0o777 == 0o640

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        _files.write(path, "third")
    assert path.read_text() == r"second \ud800"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.html", "page.html"]


DAMAGE = {
    "no JSON": ("{", "is no inventory: Expecting"),
    "binary": (b"\xff\xfe", "is no inventory: 'utf-8' codec"),
    "another format": ('{"format": 2}', "it lacks 'format': 1"),
    "a list": ("[]", "it lacks 'format': 1"),
    "no variables": ('{"format": 1, "torch": "", "torchcreator": "", "model": ""}', "'variables'"),
    "a variable without columns": (
        '{"format": 1, "torch": "", "torchcreator": "", "model": "", "totals": {}, '
        '"variables": [{"name": "x"}]}',
        "variable 0 lacks a column",
    ),
}


@pytest.mark.parametrize(("content", "complaint"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_document_is_refused(content, complaint, tmp_path):
    """A file that no inventory wrote is an error that says what is wrong with it."""
    path = tmp_path / "before.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=complaint):
        tc.inspect(Scoped).difference(path)
    with pytest.raises(ValueError, match=complaint) as caught:
        tc.inspect(Scoped).html(tmp_path / "page.html", before=path)
    assert "before.json" in str(caught.value)
    assert not (tmp_path / "page.html").exists()
