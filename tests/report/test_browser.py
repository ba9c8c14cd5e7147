"""The HTML page in a real browser: what is seen, what is pressed, and what follows.

Every test ends with a look at what the browser reported: no error, no message on the console, no
dialog, no request but the page itself. With TORCHCREATOR_BROWSER=required, as in CI, a missing
browser is a failure; with TORCHCREATOR_PICTURE=path.png, one test leaves a picture of the page.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.report.documents import creator, document, transformer, variable
from torchcreator.report._page import page as html

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing(reason):
    if os.environ.get("TORCHCREATOR_BROWSER") == "required":
        pytest.fail(f"{reason}, and TORCHCREATOR_BROWSER=required", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    """One headless Chromium for the module."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: pip install playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=60_000)
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open the page of one or two documents; afterwards, nothing may have gone wrong."""
    heard, contexts = [], []

    def show(document, before=None, *, width=1360, height=860, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(html(document, before), encoding="utf-8")
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: heard.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: heard.append(request.url))
        page.goto(file.as_uri())
        page.heard = heard
        heard.remove(file.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert [it for it in heard if not it.startswith("data:image/svg+xml")] == []


def rows(page):
    return page.locator("tbody tr[data-row]")


def names(page):
    return rows(page).locator("td.cell-name").all_text_contents()


def summary(page):
    return page.locator("#summary").inner_text()


def settle(page):
    """Let the page draw what it was asked to; its policy forbids Playwright to poll for more."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def search(page, text):
    page.get_by_role("searchbox", name="Search").fill(text)
    settle(page)


def column(page, title):
    """The texts of one column of the rows in sight."""
    titles = page.locator("thead th").all_inner_texts()
    at = [it.rstrip(" ↑↓") for it in titles].index(title) + 1
    return rows(page).locator(f"td:nth-child({at})").all_inner_texts()


def legend(page):
    return page.locator("#legend .value").all_inner_texts()


def tile(page, name):
    """The middle of a variable's tile, which its row outlines."""
    page.locator(f"tbody [title={json.dumps(name)}]").hover()
    box = page.locator(".outline.over").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def colour_at(page, x, y):
    """The colour of the treemap at a point of the window."""
    return page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
            const copy = document.createElement("canvas").getContext("2d");
            copy.drawImage(canvas, box.left - x, box.top - y, box.width, box.height);
            return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        [x, y],
    )


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
        rows(page).nth(6).click()
        x, y = tile(page, "transformer.wte.weight")
        page.mouse.move(x - 180, y)
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


def comparison():
    before = [
        variable("kept", (4, 4)),
        variable("cast", (64, 64)),
        variable("frozen", (32, 32)),
        variable("gone", (16, 16)),
    ]
    after = [
        variable("kept", (4, 4)),
        variable("cast", (64, 64), dtype="bfloat16", tags={"stage": "1"}),
        variable("frozen", (32, 32), trainable=False,
                 creators=[creator("freeze", trainable=("True", "False"))]),
        variable("new", (8, 8)),
    ]  # fmt: skip
    return document(after), document(before)


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


def test_sharded_models_say_what_one_process_holds(show):
    """Placements and local bytes have columns where something is sharded, and nowhere else."""
    sharded = variable("a", (8, 8)) | {"placements": "Shard(0)", "local_bytes": 64}
    plain = variable("b", (8, 8)) | {"placements": None, "local_bytes": 256}
    page = show(document([sharded, plain]))
    assert column(page, "Placements") == ["Shard(0)", "—"]
    assert column(page, "Local bytes") == ["64 B", "256 B"]
    page = show(document([plain]))
    assert "Placements" not in page.locator("#same").inner_text()


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


def test_it_fits_a_narrow_window(show):
    """At 700 pixels nothing is cut off: the parts stand below each other."""
    page = show(*comparison(), width=700)
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    boxes = [page.locator(it).bounding_box() for it in ("#treemap", "aside", "#scroller")]
    assert [box["y"] for box in boxes] == sorted(box["y"] for box in boxes)
    assert min(box["width"] for box in boxes) > 600


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


def test_a_document_without_variables(show):
    """A page of nothing says so."""
    page = show(document([]))
    page.get_by_text("No variable matches").wait_for()
    assert summary(page) == "All of 0 variables, 0 B"
