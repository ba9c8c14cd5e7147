"""``torchcreator inspect``: what it prints, and where."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from tests.cli.inspected import inspect, printed, table
from torchcreator._cli.commands import EXAMPLES

pytestmark = pytest.mark.usefixtures("models")


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


def test_repeated_blocks_are_one_line(capsys):
    """Blocks that are alike fold, with their count and all their bytes; ``--all`` unfolds them."""
    arguments = ("modelsfortest:Net", "[2, 5]", "--depth", "2")
    text = printed(capsys, *arguments)
    first, *_ = table(text)
    assert (first["name"], first["count"], first["bytes"]) == ("layers.0–4.weight", "5 ×", "80")
    assert re.search(r"^  layers.0–4 +10 +30 +120 ", text, re.MULTILINE)
    assert len(table(printed(capsys, *arguments, "--all"))) == 12
    assert "count" not in printed(capsys, *arguments, "--all")


def test_sizes_are_sorted_as_they_are_shown(capsys):
    """By bytes, a fold stands where all its blocks together belong."""
    text = printed(capsys, "modelsfortest:Net", "[2, 5]", "--sort", "bytes", "--reverse")
    sizes = [int(row["bytes"].replace(",", "")) for row in table(text)]
    assert sizes == sorted(sizes, reverse=True) == [80, 40, 8, 4]
    text = printed(capsys, "modelsfortest:Net", "[2, 5]", "--sort", "elements")
    assert [row["name"] for row in table(text)][-1] == "layers.0–4.weight"


def test_numbers_are_grouped(capsys):
    """Thousands have separators, in the table and in the totals."""
    text = printed(capsys, "modelsfortest:Net", "[1000]")
    assert table(text)[0]["bytes"] == "4,000,000"
    assert re.search(r"^total +6 +2,003,001 +8,012,004 +7.6 MiB$", text, re.MULTILINE)


def test_training_is_estimated(capsys):
    """``--training`` adds what a rank takes, in the dtype and on the ranks that are asked for."""
    asked = ("--training", "adamw", "--dtype", "bf16", "--ranks", "2")
    text = printed(capsys, "modelsfortest:Net", *asked)
    assert {row["dtype"] for row in table(text)} == {"bfloat16"}
    assert "training, on each of 2 ranks" in text
    document = json.loads(printed(capsys, "modelsfortest:Net", *asked, "--json"))
    assert document["training"]["replicated"] == {
        "parameters": 30,
        "gradients": 24,  # the head is frozen
        "states": 48,
        "together": 102,
    }


def test_69_billion_parameters_need_no_memory(capsys, tmp_path):
    """A model of any size is listed and estimated."""
    source = "from torch import nn\ndef big(): return nn.ModuleList("
    (tmp_path / "largefortest.py").write_text(
        f"{source}nn.Linear(2**16, 2**16) for _ in range(16))\n"
    )
    text = printed(capsys, "largefortest:big", "--training", "adamw", "--ranks", "8")
    assert re.search(r"^total +32 +68,720,525,312 ", text, re.MULTILINE)


def test_the_examples_of_the_help_run(capsys):
    """Every line that ``--help`` shows as an example does something."""
    for line in EXAMPLES.splitlines()[1:]:
        program, command, *arguments = shlex.split(line)
        assert program == "torchcreator"
        if "transformers" in line:
            pytest.importorskip("transformers")
        if command != "demo":  # in test_demo.py
            assert printed(capsys, *arguments)
