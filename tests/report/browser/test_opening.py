"""The page as it opens: complete, shut off from outside, in any window, whatever the names are.

With TORCHCREATOR_PICTURE=path.png, one test leaves a picture of the page.
"""

from __future__ import annotations

import os

import pytest

from tests.report.browser.page import colour_at, column, names, rows, settle, summary, tile
from tests.report.documents import comparison, creator, document, transformer, variable


def test_it_shows_the_model(show):
    """The page opens with the model's name, its totals, every variable, and its treemap."""
    page = show(transformer(), width=1240, height=780)
    assert page.title() == "transformers:GPT2LMHeadModel · torchcreator inspect"
    assert page.get_by_role("heading", level=1).inner_text() == "transformers:GPT2LMHeadModel"
    totals = page.locator("#totals dd").all_inner_texts()
    assert totals == ["148", "124 M", "313 MiB", "68.4 %"]
    assert summary(page) == "All of 148 variables, 313 MiB"
    assert names(page)[:2] == ["transformer.wte.weight", "transformer.wpe.weight"]
    assert page.get_by_role("grid").get_attribute("aria-rowcount") == "149"
    assert column(page, "Shape")[:3] == ["50257 × 768", "1024 × 768", "768"]
    assert column(page, "Trainable")[:3] == ["no", "no", "yes"]
    cut = "all => all.filter((it) => it.scrollWidth > it.clientWidth).length"
    assert rows(page).locator("td").evaluate_all(cut) == 0
    if picture := os.environ.get("TORCHCREATOR_PICTURE"):
        page.locator("#fold").click()
        rows(page).filter(has_text="mlp.c_fc.weight").click()
        page.mouse.move(*tile(page, "transformer.h.0–11.attn.c_attn.weight"))
        page.screenshot(path=picture)


def test_it_cannot_fetch_or_run_anything_else(show):
    """The browser refuses requests, images, frames, and scripts and styles that are not its own."""
    page = show(transformer(1))
    page.evaluate("""() => {
        window.refused = [];
        addEventListener("securitypolicyviolation", (it) => refused.push(it.effectiveDirective));
        const add = (tag, properties) =>
            document.body.append(Object.assign(document.createElement(tag), properties));
        fetch("http://127.0.0.1:9/").catch(() => {});
        add("img", { src: "http://127.0.0.1:9/image" });
        add("iframe", { src: "http://127.0.0.1:9/frame" });
        add("script", { textContent: "window.ran = true" });
        add("script", { src: "http://127.0.0.1:9/script" });
        add("link", { rel: "stylesheet", href: "http://127.0.0.1:9/style" });
    }""")
    settle(page)
    refused = set(page.evaluate("refused"))
    assert refused == {"connect-src", "img-src", "frame-src", "script-src-elem", "style-src-elem"}
    assert page.evaluate("window.ran") is None
    refusals = [it for it in page.heard if "Content Security Policy" in it]
    assert len(refusals) >= 6
    page.heard[:] = [it for it in page.heard if it not in refusals and "127.0.0.1:9" not in it]


HOSTILE = {
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>.w": "</script><img src=x onerror=alert(1)>.w",
    "<!--.weight": "<!--.weight",
    "\"quoted' `${name}`.weight": "\"quoted' `${name}`.weight",
    "line\u2028end.weight": "line\\u2028end.weight",
    "evil\u202ethgiew.weight": "evil\\u202ethgiew.weight",
    "__proto__.constructor": "__proto__.constructor",
    "重み.bias": "重み.bias",
}


def test_hostile_names_are_only_names(show):
    """Names, tags and the model are shown as they are written, and do nothing else."""
    variables = [
        variable(name, tags={"__proto__": name, name: name}, constraint=name,
                 creators=[creator(name, **{name: (name, name)})])
        for name in HOSTILE
    ]  # fmt: skip
    page = show(document([*variables, variable("plain")], model="<b>model</b>"))
    assert names(page) == [*HOSTILE.values(), "plain"]
    assert page.locator("h1").inner_text() == "<b>model</b>"
    details = page.get_by_role("region", name="Details")
    for at, shown in enumerate(HOSTILE.values()):
        rows(page).nth(at).click()
        assert details.get_by_role("heading", level=2).inner_text().startswith(shown)
        assert details.inner_text().count(shown) >= 6
    rows(page).nth(len(HOSTILE)).click()
    assert "__proto__" not in details.inner_text()
    for option in ("module", "constraint", "creators", "tag:__proto__"):
        page.get_by_label("Colour by").select_option(option)
        page.locator("#legend button").first.click()
        page.locator("#legend button").first.click()
    x, y = tile(page, "<!--.weight")
    page.mouse.move(x, y)
    assert "<!--.weight" in page.get_by_role("tooltip").inner_text()
    assert page.locator("script").count() == 3
    assert page.locator("img, iframe, h1 :not(wbr), h2 .name :not(wbr), td .leaf *").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_and_the_button(scheme, show):
    """The page is light or dark as the system is, until the button says otherwise."""
    page = show(transformer(1), color_scheme=scheme)
    ground = "getComputedStyle(document.body).backgroundColor"
    box = page.locator("#treemap").bounding_box()
    corner = (box["x"] + 3, box["y"] + 3)
    paper = {"light": "rgb(251, 250, 248)", "dark": "rgb(20, 21, 23)"}
    other = "dark" if scheme == "light" else "light"
    assert page.evaluate(ground) == paper[scheme]
    assert (colour_at(page, *corner)[0] > 128) == (scheme == "light")
    page.get_by_role("button", name=f"Change to {other} colours").click()
    assert page.evaluate(ground) == paper[other]
    assert (colour_at(page, *corner)[0] > 128) == (other == "light")


def test_it_fits_a_narrow_window(show):
    """Down to a phone nothing is cut off: the parts stand below each other."""
    for width in (390, 700):
        page = show(*comparison(), width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator(it).bounding_box() for it in ("#treemap", "aside", "#scroller")]
    assert [box["y"] for box in boxes] == sorted(box["y"] for box in boxes)
    assert min(box["width"] for box in boxes) > 600


def test_a_document_without_variables(show):
    """A page of nothing says so."""
    page = show(document([]))
    page.get_by_text("No variable matches").wait_for()
    assert summary(page) == "All of 0 variables, 0 B"
