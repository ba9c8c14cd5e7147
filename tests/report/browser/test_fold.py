"""Repeated blocks are one row and one tile; what does not fit is hinted at."""

from __future__ import annotations

from torch import nn

import torchcreator as tc
from tests.report.browser.page import column, names, search, settle, summary, tile
from tests.report.documents import document, transformer, variable


def layers(count=6):
    """Describe layers of two equal matrices and a head."""
    return document([
        *(variable(f"layers.{n}.mlp.{part}.weight", (64, 64)) for n in range(count)
          for part in ("gate_proj", "up_proj")),
        variable("head.weight", (8, 64)),
    ])  # fmt: skip


def test_repeated_blocks_are_one_row(show):
    """A page opens folded, says how many variables there are, and unfolds at a press."""
    page = show(layers(), folded=True)
    assert names(page) == [
        *("layers.0–5.mlp.gate_proj.weight", "layers.0–5.mlp.up_proj.weight", "head.weight")
    ]
    assert column(page, "Blocks") == ["6 ×", "6 ×", "—"]
    assert column(page, "Bytes") == ["96.0 KiB", "96.0 KiB", "2.00 KiB"]
    assert summary(page) == "All of 13 variables, 194 KiB"
    button = page.get_by_role("button", name="Fold repeated blocks")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    settle(page)
    assert names(page)[:2] == ["layers.0.mlp.gate_proj.weight", "layers.0.mlp.up_proj.weight"]
    assert "Blocks" not in page.locator("#same").inner_text()
    button.click()
    settle(page)
    assert len(names(page)) == 3


def test_what_is_folded_is_found(show):
    """The search knows the name of each block, and counts what it finds."""
    page = show(layers(), folded=True)
    search(page, "layers.4 gate")
    assert names(page) == ["layers.0–5.mlp.gate_proj.weight"]
    assert summary(page) == "6 of 13 variables, 96.0 KiB of 194 KiB"
    page.mouse.move(*tile(page, "layers.0–5.mlp.gate_proj.weight"))
    assert "96.0 KiB" in page.get_by_role("tooltip").inner_text()


def test_what_does_not_repeat_has_no_button(show):
    """Two models, and one without repeated blocks, are not folded."""
    assert show(layers(2), folded=True).locator("#fold").is_hidden()
    assert show(layers(), layers(), folded=True).locator("#fold").is_hidden()
    assert show(transformer(), folded=True).locator("#fold").is_visible()


def test_columns_out_of_sight_are_counted(show):
    """Where the table is wider than the window, a button says by how many columns."""
    page = show(layers(), folded=True, width=390)
    beyond = page.locator("#beyond")
    assert beyond.inner_text() == "3 more columns →"
    while beyond.is_visible():
        beyond.click()
        settle(page)
    assert page.locator("#scroller").evaluate("it => it.scrollLeft") > 0
    assert show(layers(), folded=True).locator("#beyond").is_hidden()


def words_on_the_map(page):
    """Return what the map writes from now on, once it is drawn again."""
    page.evaluate(
        """() => {
            window.written = [];
            const write = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
                window.written.push(text);
                return write.call(this, text, ...rest);
            };
        }"""
    )
    page.locator("#theme").click()
    settle(page)
    return page.evaluate("window.written")


def test_a_tile_says_which_module_it_is(show):
    """Where a module has no room for a title, its tile says its name, not its variable's."""
    page = show(layers(120))
    written = words_on_the_map(page)
    assert any(text.startswith("gat") for text in written)
    assert not any(text.startswith("wei") for text in written)


def test_a_notebook_opens_the_map_in_place(browser):
    """The HTML of an inventory has the whole page, which draws when it is opened."""
    inventory = tc.inspect(lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    heard = []
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.set_content(inventory._repr_html_())
    page.locator("summary", has_text="Map").click()
    frame = page.frame_locator("iframe")
    frame.locator("tbody tr[data-row]").first.wait_for()
    assert frame.locator("#summary").inner_text() == "All of 4 variables, 576 B"
    assert frame.locator("thead th").first.bounding_box()["width"] > 100
    assert heard == []
    page.close()
