"""Everything by keyboard alone."""

from __future__ import annotations

from tests.report.browser.page import names, summary
from tests.report.documents import comparison, transformer


def test_the_keyboard_alone_is_enough(show):
    """Search, treemap and table are reached by Tab, moved in by arrows and opened by Enter."""
    page = show(transformer())
    press = page.keyboard.press
    focused = "document.activeElement.id"

    press("/")
    assert page.evaluate(focused) == "search"
    page.keyboard.type("h.1 /")  # a slash in the search is a slash
    assert page.locator("#search").input_value() == "h.1 /"
    press("Escape")
    assert page.locator("#search").input_value() == ""

    press("Tab")
    assert page.evaluate(focused) == "fold"
    press("Tab")
    assert page.evaluate(focused) == "treemap"
    cursor = page.get_by_role("treeitem")
    press("ArrowDown")
    assert cursor.inner_text() == "transformer, 313 MiB"
    press("ArrowDown")
    press("ArrowRight")
    assert cursor.inner_text() == "wte, 147 MiB"
    assert cursor.get_attribute("aria-posinset") == "2"
    press("ArrowLeft")
    press("Enter")
    assert summary(page).startswith("144 of 148")
    press("Backspace")
    assert summary(page).startswith("All of 148")
    for key in ("ArrowDown", "ArrowRight", "ArrowDown", "Enter"):
        press(key)
    details = page.get_by_role("region", name="Details")
    assert "transformer.wte.weight" in details.inner_text()

    for _ in range(8):
        press("Tab")
        if page.evaluate(focused) == "scroller":
            break
    press("ArrowDown")
    press("ArrowDown")
    press("Enter")
    assert "transformer.h.0.ln_1.weight" in details.inner_text()
    active = page.get_by_role("grid").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    press("End")
    assert names(page)[-1] == "transformer.ln_f.bias"
    press("PageUp")
    press("Home")
    assert names(page)[0] == "transformer.wte.weight"

    press("Tab")
    press("ArrowRight")
    press("Enter")
    assert page.locator("th[aria-sort=ascending]").inner_text() == "Module type"
    assert page.evaluate("document.activeElement.title") == "Sort by Module type"


def test_focus_is_always_seen(show):
    """Each stop of Tab has a name and an outline."""
    page = show(*comparison())
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stop = page.evaluate("""() => {
            const it = document.activeElement, style = getComputedStyle(it);
            const name = it.getAttribute("aria-label") || it.labels?.[0]?.innerText || it.innerText;
            return [it.tagName, name || it.id, style.outlineStyle, parseFloat(style.outlineWidth)];
        }""")
        if stop[0] == "BODY" or stop in stops:
            break
        stops.append(stop)
    assert len(stops) > 10
    assert [stop for stop in stops if not stop[1] or stop[2] == "none" or stop[3] < 2] == []
