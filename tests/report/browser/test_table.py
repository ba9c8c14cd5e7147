"""The table: what is searched, sorted, left out, and far away."""

from __future__ import annotations

from tests.report.browser.page import column, names, rows, search, settle, summary, tile
from tests.report.documents import document, transformer, variable


def test_the_search_narrows_table_treemap_and_legend(show):
    """All words have to occur; what matches gets the whole treemap."""
    page = show(transformer())
    before = page.locator("#treemap").bounding_box()
    search(page, "MLP c_fc")
    assert summary(page) == "24 of 148 variables, 54.1 MiB of 313 MiB"
    assert all("mlp.c_fc" in name for name in names(page))
    assert page.locator("#legend .amount").all_inner_texts() == [
        "0 B",
        "54.0 MiB",
        "0 B",
        "0 B",
        "144 KiB",
    ]
    tile(page, "transformer.h.0.mlp.c_fc.weight")
    box = page.locator(".outline.over").bounding_box()
    share = box["width"] * box["height"] / (before["width"] * before["height"])
    assert share > 0.06  # 1.4 % of the model
    search(page, "no such variable")
    page.get_by_text("No variable matches").wait_for()
    assert rows(page).count() == 0


def test_the_search_looks_into_one_column(show):
    """`dtype:bfloat16` means the column, tags and devices with a colon included."""
    page = show(document([
        variable("cpu.weight", device="cuda:0"),
        variable("other", device="cpu", tags={"stage": "cpu"}),
        variable("third", device="cpu", tags={"stage": "two"}),
    ]))  # fmt: skip
    for query, found in [
        ("cpu", ["cpu.weight", "other", "third"]),
        ("device:cpu", ["other", "third"]),
        ("device:cuda:0", ["cpu.weight"]),
        ("tag:stage:cpu", ["other"]),
        ("name:cpu device:cuda", ["cpu.weight"]),
        ("nothing:cpu", []),
    ]:
        search(page, query)
        assert names(page) == found, query


def test_a_column_sorts_up_down_and_not(show):
    """Pressing a title sorts by number or by name, a second time downwards, a third time not."""
    page = show(transformer())
    own = names(page)
    title = page.get_by_role("columnheader", name="Bytes")
    title.click()
    assert column(page, "Bytes")[0] == "3.00 KiB"
    assert title.get_attribute("aria-sort") == "ascending"
    title.click()
    assert column(page, "Bytes")[:2] == ["147 MiB", "4.50 MiB"]
    assert title.get_attribute("aria-sort") == "descending"
    title.click()
    assert names(page) == own
    assert title.get_attribute("aria-sort") is None
    page.get_by_role("columnheader", name="Name").click()
    layers = [name for name in names(page) if name.startswith("transformer.h.")]
    assert layers[0] == "transformer.h.0.attn.c_attn.bias"
    search(page, "ln_1.weight")
    assert names(page)[2:] == [f"transformer.h.{n}.ln_1.weight" for n in range(2, 12)]


def test_sharded_models_say_what_one_process_holds(show):
    """Placements and local bytes have columns where something is sharded, and nowhere else."""
    sharded = variable("a", (8, 8)) | {"placements": "Shard(0)", "local_bytes": 64}
    plain = variable("b", (8, 8)) | {"placements": None, "local_bytes": 256}
    page = show(document([sharded, plain]))
    assert column(page, "Placements") == ["Shard(0)", "—"]
    assert column(page, "Local bytes") == ["64 B", "256 B"]
    page = show(document([plain]))
    assert "Placements" not in page.locator("#same").inner_text()


def test_columns_that_say_the_same_of_all_are_one_line(show):
    """What does not differ is said once, above the table; a press shows every column."""
    page = show(document([variable("a"), variable("b", trainable=False)]))
    assert page.locator("thead th").all_inner_texts() == ["Name", "Trainable"]
    assert "Dtype float32" in page.locator("#same").inner_text().replace("\n", " ")
    page.get_by_role("button", name="All columns").click()
    assert page.locator("thead th").all_inner_texts() == [
        "Name", "Module type", "Shape", "Dtype", "Device", "Bytes", "Trainable", "Constraint",
        "Synchronization", "Aggregation", "Creators", "Tied to", "Declared", "Elements",
    ]  # fmt: skip
    page.get_by_role("button", name="Only columns that differ").click()
    assert page.locator("thead th").count() == 2


def test_ten_thousand_variables_stay_in_hand(show):
    """The page holds the rows in sight, however many there are and wherever one scrolls."""
    page = show(transformer(850))
    assert summary(page).startswith("All of 10,204 variables")
    assert rows(page).count() < 60
    page.locator("#scroller").focus()
    page.keyboard.press("End")
    assert names(page)[-1] == "transformer.ln_f.bias"
    page.locator("#scroller").evaluate("it => { it.scrollTop = 28 * 5000; }")
    settle(page)
    assert int(rows(page).first.get_attribute("aria-rowindex")) > 4900
    assert rows(page).count() < 60
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    page.get_by_role("columnheader", name="Name").click()
    search(page, "h.849.mlp")
    assert names(page)[0] == "transformer.h.849.mlp.c_fc.bias"


def test_what_has_no_bytes_is_in_the_table(show):
    """A shape that is not yet known, an empty and a scalar variable are shown as what they are."""
    lazy = variable("lazy", (0,)) | {"shape": None}
    page = show(document([lazy, variable("empty", (0, 3)), variable("one", ())]))
    assert column(page, "Shape") == ["not yet known", "0 × 3", "scalar"]
    assert page.locator(".nothing").is_hidden()
    page.locator("#search").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("treeitem").inner_text() == "one, 4 B"
    assert page.get_by_role("treeitem").get_attribute("aria-setsize") == "1"
    search(page, "lazy")
    page.get_by_text("No bytes to show").wait_for()
    assert names(page) == ["lazy"]
