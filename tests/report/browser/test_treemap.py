"""The treemap and its legend: what is pointed at, selected, coloured, filtered and opened."""

from __future__ import annotations

from tests.report.browser.page import colour_at, legend, names, rows, summary, tile
from tests.report.documents import document, transformer, variable


def test_pointing_shows_what_is_there(show):
    """Pointing at a tile shows its variable and marks its row; at a title, its module."""
    page = show(transformer())
    x, y = tile(page, "transformer.wte.weight")
    page.mouse.move(x, y)
    tooltip = page.get_by_role("tooltip")
    assert tooltip.inner_text().split("\n\n") == [
        "transformer.wte.weight",
        "Embedding · 50257 × 768 · float32 · 147 MiB, 47.1 %",
        "Creators: freeze",
    ]
    assert rows(page).nth(0).evaluate("it => it.classList.contains('over')")
    box = page.locator("#treemap").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 8)
    assert tooltip.inner_text().startswith("transformer\n\n148 variables · 313 MiB")
    page.mouse.move(5, 5)
    assert tooltip.is_hidden()


def test_a_tile_and_a_row_select_the_same_variable(show):
    """A press on either shows the details and marks both; Escape takes it back."""
    page = show(transformer())
    page.mouse.click(*tile(page, "transformer.wte.weight"))
    details = page.get_by_role("region", name="Details")
    assert "Share\n47.1 % of all bytes" in details.inner_text()
    assert "trainable: True → False" in details.inner_text()
    assert "Tied to\nlm_head.weight" in details.inner_text()
    assert rows(page).nth(0).get_attribute("aria-selected") == "true"
    rows(page).nth(2).click()
    assert (
        details.get_by_role("heading", level=2)
        .inner_text()
        .startswith("transformer.h.0.ln_1.weight")
    )
    assert "Tags\ngroup\nno decay" in details.inner_text()
    assert rows(page).nth(0).get_attribute("aria-selected") == "false"
    assert page.locator(".outline.chosen").is_visible()
    page.keyboard.press("Escape")
    assert "Select a variable" in details.inner_text()
    assert page.locator(".outline.chosen").is_hidden()


def test_a_tile_of_a_row_far_away_is_brought_into_sight(show):
    """Selecting a tile scrolls the table to its row."""
    page = show(transformer())
    page.get_by_role("columnheader", name="Bytes").click()
    assert "transformer.wte.weight" not in names(page)
    page.get_by_role("columnheader", name="Bytes").click()
    point = tile(page, "transformer.wte.weight")
    page.get_by_role("columnheader", name="Bytes").click()
    page.get_by_role("columnheader", name="Bytes").click()
    page.mouse.click(*point)
    selected = page.locator("tr[aria-selected=true]")
    assert "transformer.wte.weight" in selected.text_content()
    grid, row = page.get_by_role("grid").bounding_box(), selected.bounding_box()
    assert grid["y"] < row["y"] < grid["y"] + grid["height"] - 20


def test_any_column_colours(show):
    """The legend tells a column's values, the largest first; tiles and rows wear its colours."""
    page = show(transformer())
    assert legend(page) == ["freeze", "cast", "cast, constrained", "tagged", "(none)"]
    point = tile(page, "transformer.wte.weight")
    swatch = "it => getComputedStyle(it).backgroundColor.match(/\\d+/g).map(Number)"
    values = {
        "change": None, "dtype": ["bfloat16", "float32"], "trainable": ["no", "yes"],
        "module_type": ["Conv1D", "Embedding", "LayerNorm"], "aggregation": ["NONE"],
        "constraint": ["max_norm(2.0)", "(none)"], "tag:group": ["no decay", "(none)"],
        "bytes": ["below 32.0 KiB", "below 32.0 MiB", "below 1.00 GiB"], "module": ["transformer"],
    }  # fmt: skip
    offered = page.locator("#colour option").evaluate_all("all => all.map((it) => it.value)")
    for name, expected in values.items():
        if expected is None:
            assert name not in offered
            continue
        page.get_by_label("Colour by").select_option(name)
        assert legend(page) == expected, name
    page.get_by_label("Colour by").select_option("module_type")
    embedding = page.locator("#legend button").filter(has_text="Embedding").locator(".swatch")
    assert colour_at(page, *point) == embedding.evaluate(swatch)
    colours = [rows(page).nth(at).locator(".swatch").evaluate(swatch) for at in (0, 1, 2)]
    assert colours[0] == colours[1] == embedding.evaluate(swatch)
    assert colours[2] != colours[1]


def test_many_values_share_the_neutral_colour(show):
    """Seven values have colours of their own; the rest stand in one line, and filter together."""
    page = show(
        document([variable(f"w{n}", (n + 1, 4), constraint=f"kind {n}") for n in range(12)])
    )
    page.get_by_label("Colour by").select_option("constraint")
    assert legend(page) == [*(f"kind {n}" for n in range(11, 4, -1)), "5 others"]
    page.get_by_role("button", name="5 others").click()
    assert names(page) == [f"w{n}" for n in range(5)]


def test_the_legend_filters(show):
    """Pressed values are let through, in both views, until their chip is pressed."""
    page = show(transformer())
    page.get_by_role("button", name="cast, constrained").click()
    assert summary(page) == "12 of 148 variables, 54.0 MiB of 313 MiB"
    assert all(name.endswith("mlp.c_proj.weight") for name in names(page))
    page.get_by_role("button", name="freeze").click()
    assert summary(page).startswith("14 of 148")
    page.get_by_label("Colour by").select_option("trainable")
    page.locator("#legend button").filter(has_text="yes").click()
    assert summary(page).startswith("12 of 148")
    page.get_by_role("button", name="Drop the filter Trainable").click()
    page.get_by_role("button", name="Drop the filter Creators").click()
    assert summary(page).startswith("All of 148")


def test_modules_open_and_close(show):
    """A press on a title opens its module in both views; the path leads back."""
    page = show(transformer())
    box = page.locator("#treemap").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 8)
    path = page.get_by_role("navigation", name="Module")
    assert path.inner_text().split() == ["GPT2LMHeadModel", "transformer"]
    page.mouse.click(box["x"] + 40, box["y"] + 8)
    assert path.inner_text().split() == ["GPT2LMHeadModel", "transformer", "h"]
    assert summary(page).startswith("144 of 148")
    page.mouse.dblclick(box["x"] + 40, box["y"] + 90)
    assert len(path.inner_text().split()) >= 4
    assert summary(page).startswith("12 of 148")
    path.get_by_role("button", name="transformer").click()
    assert summary(page).startswith("All of 148")
    path.get_by_role("button", name="GPT2LMHeadModel").click()
    assert path.get_by_role("button").count() == 0


def test_two_presses_on_a_title_are_one(show):
    """A double click on a title opens its module, not what then lies under the pointer."""
    page = show(transformer())
    box = page.locator("#treemap").bounding_box()
    page.mouse.dblclick(box["x"] + 40, box["y"] + 8)
    path = page.get_by_role("navigation", name="Module")
    assert path.inner_text().split() == ["GPT2LMHeadModel", "transformer"]


def test_opening_a_module_leaves_the_choice_of_modules(show):
    """Colours by module are those of the module in sight, and so is a choice among them."""
    page = show(document([variable(name) for name in ("a.x.w", "a.y.w", "b.w")]))
    page.get_by_label("Colour by").select_option("module")
    assert legend(page) == ["a", "b"]
    page.get_by_role("button", name="a 48 B").click()
    assert names(page) == ["a.x.w", "a.y.w"]
    box = page.locator("#treemap").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 8)
    assert legend(page) == ["x", "y"]
    assert names(page) == ["a.x.w", "a.y.w"]
    assert page.get_by_role("button", name="Drop the filter").count() == 0
