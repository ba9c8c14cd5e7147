"""What a notebook shows: tables with names as text, totals, and the map in place."""

from __future__ import annotations

import re
import textwrap

import pytest
from torch import nn

import torchcreator as tc
from tests.report.models import Hostile, Scoped, frozen
from torchcreator.report import _notebook


def tags(html):
    return set(re.findall(r"<(\w+)", html))


def column(html, heading):
    """Return the style and the cells of a column of the first table."""
    head, body = html.partition("</thead>")[::2]
    titles = re.findall(r'<th style="(.*?)">(.*?)</th>', head)
    styles = {title: style for style, title in titles}
    rows = re.findall(r"<tr>(.*?)</tr>", body.partition("</table>")[0])
    place = list(styles).index(heading)
    cells = [re.findall(r'<td style="(.*?)">(.*?)</td>', row)[place] for row in rows]
    assert {style for style, _ in cells} == {styles[heading]}
    return styles[heading], [cell for _, cell in cells]


def test_names_are_text():
    """Names and tags are text in the notebook's HTML, never markup, in the frame too."""
    html = tc.inspect(Hostile)._repr_html_()
    table, frame = html.split("<iframe")
    assert "&lt;script&gt;alert(" in table
    assert "&lt;img src=x" in table
    assert tags(table) == {
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary")
    }
    assert frame.startswith(' sandbox="allow-scripts" ')
    assert frame.count("<") == 2  # its own end, and that of what it is in


def test_columns_that_say_nothing_are_left_out():
    """A column in which every variable has the default is none; names begin below each other."""
    html = tc.inspect(nn.Linear(2, 3))._repr_html_()
    for heading, cells in {
        "name": ["weight", "bias"],
        "shape": ["3x2", "3"],
        "trainable": ["yes", "yes"],
        "dtype": ["float32"] * 2,
        "device": ["cpu"] * 2,
    }.items():
        assert column(html, heading)[0].startswith("text-align: left")
        assert column(html, heading)[1] == cells
    assert column(html, "bytes") == ("text-align: right", ["24", "12"])
    assert "Linear: 2 variables, 36 B" in html
    assert "constraint" not in html.partition("<details>")[0]


def test_blocks_fold_and_totals_are_told():
    """Repeated blocks are one line, and the sums stand behind a press."""
    html = tc.inspect(lambda: nn.ModuleList(nn.Linear(2, 2) for _ in range(7)))._repr_html_()
    assert column(html, "name")[1] == ["0–6.weight", "0–6.bias"]
    assert column(html, "count")[1] == ["7 ×", "7 ×"]
    totals = html.partition("<summary>Totals</summary>")[2]
    style, elements = column(totals, "elements")
    assert (style, elements[0]) == ("text-align: right", "42")
    style, of = column(totals, "of")
    assert style == "text-align: left; white-space: nowrap"
    assert of == [
        *("total", "", "by module", "0–6", "", "by dtype", "float32", "", "by trainable"),
        "trainable",
    ]


def test_what_is_too_long_is_cut(monkeypatch):
    """Lines past a limit are counted, and a page past one is not kept in the notebook."""
    monkeypatch.setattr(_notebook, "MOST_LINES", 1)
    monkeypatch.setattr(_notebook, "LARGEST_PAGE", 1000)
    html = tc.inspect(nn.Linear(2, 3))._repr_html_()
    assert column(html, "name")[1] == ["weight"]
    assert "<p>and 1 more</p>" in html
    assert "iframe" not in html
    assert "Too large" in html


def test_a_difference_is_a_table_too():
    """What `difference` returns is text, and in a notebook a table with the same words."""
    with tc.creator_scope(frozen):
        after = tc.inspect(nn.Linear, 2, 3)
    different = after.difference(tc.inspect(nn.Linear, 2, 3))
    assert isinstance(different, str)
    html = different._repr_html_()
    assert column(html, "variable")[1] == ["weight", "bias"]
    assert column(html, "what")[1][0].strip() == "trainable True -&gt; False"
    assert "0 added, 0 removed, 2 changed" in html
    assert tags(tc.inspect(Hostile).difference(after)._repr_html_()) == tags(html)


def test_a_ledger_is_a_table_too():
    """A ledger says in a notebook what it says in a terminal, and who was asked."""
    ledger = tc.creators.Ledger()
    with tc.creator_scope(frozen, tc.creators.record(ledger)):
        Scoped()
    html = ledger._repr_html_()
    assert column(html, "name")[1] == ledger.names
    assert "not trainable" in column(html, "variable")[1][0]
    assert "frozen" in column(html, "creators")[1][0]


CELLS = {
    "tc.inspect(layer)": "name",
    "tc.inspect(layer).difference(tc.inspect(nn.Linear(2, 4)))": "variable",
    "ledger": "name",
}


def test_a_real_notebook_shows_them(tmp_path):
    """A kernel that runs a notebook sends the HTML of each beside its text."""
    nbclient = pytest.importorskip("nbclient")
    v4 = pytest.importorskip("nbformat.v4")
    pytest.importorskip("ipykernel")
    before = """
        import torchcreator as tc
        from torch import nn
        ledger = tc.creators.Ledger()
        with tc.creator_scope(tc.creators.record(ledger)):
            layer = nn.Linear(2, 3)
    """
    cells = [v4.new_code_cell(source) for source in (textwrap.dedent(before), *CELLS)]
    notebook = v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=100, resources=resources).execute()
    for cell, heading in zip(notebook.cells[1:], CELLS.values(), strict=True):
        assert "weight" in column(cell.outputs[0].data["text/html"], heading)[1]
