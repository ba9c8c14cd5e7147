"""Two models side by side: what was added, removed and changed."""

from __future__ import annotations

import pytest

from tests.report.browser.page import column, legend, names, rows, tile
from tests.report.documents import comparison, creator, document, variable


def test_two_models_are_compared(show):
    """Each variable is added, removed, changed or unchanged, and says what it was and is."""
    page = show(*comparison())
    assert legend(page) == ["+ added", "− removed", "~ changed", "= unchanged"]
    assert page.locator("#changes").inner_text().split("\n") == [
        "+ 1 added", "− 1 removed", "~ 2 changed", "= 1 unchanged"
    ]  # fmt: skip
    totals = page.locator("#totals dd").all_inner_texts()
    assert totals == ["4", "5.39 k → 5.20 k", "21.1 KiB → 12.3 KiB", "100 % → 80.3 %"]
    assert names(page) == ["kept", "cast", "frozen", "new", "gone"]
    assert column(page, "Dtype")[:2] == ["float32", "float32 → bfloat16"]
    assert column(page, "Trainable")[2] == "yes → no"
    assert column(page, "Creators")[2] == "— → freeze"
    assert column(page, "Tag stage")[1] == "— → 1"
    assert column(page, "Change") == [
        "= unchanged",
        "~ changed",
        "~ changed",
        "+ added",
        "− removed",
    ]
    assert column(page, "What changed") == ["—", "dtype, tag stage", "trainable", "—", "—"]
    page.get_by_label("Colour by").select_option("what")
    assert legend(page) == ["dtype, tag stage", "trainable", "(none)"]
    rows(page).nth(1).click()
    assert "Dtype\nfloat32 → bfloat16" in page.get_by_role("region", name="Details").inner_text()


def test_how_a_variable_came_about_is_no_change_of_it(show):
    """Another creator alone leaves a variable unchanged; its column tells what was there before."""
    was = [variable("a"), variable("b")]
    now = [variable("a", creators=[creator("given", answered=True)], declared=True), variable("b")]
    page = show(document(now), document(was))
    assert "= 2 unchanged" in page.locator("#changes").inner_text()
    assert column(page, "Creators")[0] == "— → given"
    rows(page).nth(0).click()
    assert "given answered itself" in page.get_by_role("region", name="Details").inner_text()


def test_changes_filter(show):
    """Pressing added or removed narrows both views to these; the counts stay."""
    page = show(*comparison())
    page.get_by_role("button", name="1 added").first.click()
    assert names(page) == ["new"]
    page.locator("#changes").get_by_role("button", name="1 removed").click()
    assert names(page) == ["new", "gone"]
    assert "2 changed" in page.locator("#changes").inner_text()
    assert page.locator("#changes button[aria-pressed=true]").count() == 2
    page.keyboard.press("Escape")
    assert len(names(page)) == 5


def test_a_tile_of_a_removed_variable_is_its_former_size(show):
    """What is gone is drawn with the bytes that it had."""
    page = show(document([variable("w", (8, 8))]), document([variable("gone", (8, 8))]))
    areas = []
    for name in ("w", "gone"):
        tile(page, name)
        box = page.locator(".outline.over").bounding_box()
        areas.append(box["width"] * box["height"])
    assert areas[0] == pytest.approx(areas[1], rel=0.02)
