"""The HTML page as text: complete, safe, and made of what is recorded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest

from tests.report.documents import document, transformer, variable
from torchcreator.report._page import ASSETS, SCRIPTS, page

HOSTILE = [
    "<script>alert(1)</script>.weight",
    "</script><script>alert(1)</script>",
    "<!-- <script> -->",
    "]]>&lt;&amp;",
    "\"quoted' `${name}`.weight",
    "lines\u2028and\u2029paragraphs\n.weight",
    "right\u202eto\u202cleft",
    "\ud800 alone",
    "{{script}}{{documents}}",
    "__proto__.constructor",
]


class Elements(HTMLParser):
    """What an HTML parser finds: the elements, the attributes, and the texts of scripts."""

    def __init__(self, text):
        super().__init__()
        self.starts, self.attributes, self.texts = [], [], {"script": [], "style": []}
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.starts.append(tag)
        self.attributes += [(tag, *one) for one in attrs]
        self.inside = tag
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside in self.texts:
            self.texts[self.inside][-1] += data


def embedded(text):
    return json.loads(Elements(text).texts["script"][0])


def policy(text):
    (content,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    return dict(part.strip().split(" ", 1) for part in content.split(";"))


def fingerprint(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_page_holds_both_documents():
    """The documents come out of the page as they went in."""
    before, after = transformer(1, policies=False), transformer(1)
    alone, compared = embedded(page(after)), embedded(page(after, before))
    assert alone == {"after": after, "before": None, "folds": None}  # nothing repeats
    assert compared == {"after": after, "before": before, "folds": None}
    lines = dict(embedded(page(transformer(3)))["folds"])
    assert lines["transformer.ln_f.weight"] == [len(transformer(3)["variables"]) - 2]


def test_the_same_documents_make_the_same_page():
    """Nothing of the time, the place or the machine is in a page."""
    assert page(transformer(1)) == page(transformer(1))


def test_nothing_is_fetched():
    """No element names a resource, but for the icon, which is in the page; nor does the style."""
    elements = Elements(page(transformer(1)))
    names = {"src", "href", "srcset", "data", "action", "poster", "style"}
    resources = [(tag, value) for tag, name, value in elements.attributes if name in names]
    assert [tag for tag, _ in resources] == ["link"]
    assert resources[0][1].startswith("data:image/svg+xml,")
    assert not re.search(r"@import|url\(", elements.texts["style"][0])


def test_the_policy_allows_what_is_in_the_page_and_nothing_else():
    """The security policy names the page's own scripts and style by their SHA-256, and no place."""
    text = page(transformer(1))
    elements, allowed = Elements(text), policy(text)
    data, *scripts = elements.texts["script"]
    assert json.loads(data)
    assert allowed["script-src"].split() == [fingerprint(script) for script in scripts]
    assert allowed["style-src"] == fingerprint(*elements.texts["style"])
    assert allowed["default-src"] == "'none'"
    assert set(allowed) == {
        "default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"
    }  # fmt: skip
    assert not [name for _, name, _ in elements.attributes if name.startswith("on")]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_is_never_markup(name):
    """Whatever a variable, a tag or the model is called, the parser finds the same elements."""
    plain = document([variable("weight", tags={"tag": "value"})])
    named = document([variable(name, tags={name: name})], model=name)
    named["variables"][0]["module"] = ""
    assert Elements(page(named, named)).starts == Elements(page(plain, plain)).starts
    assert embedded(page(named))["after"] == named


def test_the_documents_are_embedded_in_letters_that_are_only_letters():
    """The embedded JSON is ASCII, without angle brackets and ampersands: a page can be encoded."""
    text = page(document([variable(name) for name in HOSTILE]))
    data = Elements(text).texts["script"][0]
    assert data.isascii()
    assert not re.search("[<>&]", data)
    assert text.encode()


def test_the_page_without_variables_is_small():
    """All that is not the model's own weighs less than 100 kB."""
    assert len(page(document([])).encode()) < 100_000


@pytest.mark.parametrize("name", [f"{name}.js" for name in SCRIPTS] + ["inspect.css"])
def test_no_asset_ends_the_element_that_it_is_in(name):
    """Script and style hold nothing that the parser takes for an end or a comment."""
    text = (ASSETS / name).read_text(encoding="utf-8")
    assert not re.search(r"</(script|style)|<!--|<script", text, re.IGNORECASE)


def test_the_scripts_set_text_only():
    """No script of ours writes HTML, evaluates text, or asks the network."""
    for name in SCRIPTS:
        text = (ASSETS / f"{name}.js").read_text(encoding="utf-8")
        assert not re.search(r"(inner|outer)HTML|insertAdjacent|document\.write", text), name
        assert not re.search(r"\beval\b|new Function|fetch\(|XMLHttpRequest|import\(", text), name


RECORDED = re.findall(
    r"^\| `([\w.-]+)` \|.* `([0-9a-f]{64})` \|$",
    (ASSETS / "README.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


@pytest.mark.parametrize(("name", "digest"), RECORDED, ids=[name for name, _ in RECORDED])
def test_a_file_of_others_is_the_recorded_one(name, digest):
    """The library and its licence are the files of the package and version that are recorded."""
    assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest


def test_every_asset_is_accounted_for():
    """Each file is the template, the style, a script that is used, or recorded with its sum."""
    ours = {"README.md", "page.html", "inspect.css", *(f"{name}.js" for name in SCRIPTS)}
    recorded = {name for name, _ in RECORDED}
    assert {asset.name for asset in ASSETS.iterdir()} == ours | recorded
    assert len(recorded) == 2


def test_the_licence_of_the_library_is_in_the_page():
    """A page is a copy of the library, so the library's licence text is in it."""
    licence = (ASSETS / "d3-hierarchy.LICENSE.txt").read_text(encoding="utf-8")
    assert licence in page(document([]))


# Colours

CSS = (ASSETS / "inspect.css").read_text(encoding="utf-8")
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS
    )
}
THEMES = pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])

# How the three kinds of dichromats see linear RGB: Machado, Oliveira and Fernandes, "A
# physiologically-based model for simulation of color vision deficiency" (2009), severity 1.
SEEN_BY = {
    "all cones": np.eye(3),
    "protanopes": np.array([
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopes": np.array([
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopes": np.array([
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip


def linear(colour):
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The contrast ratio of WCAG 2."""
    darker, lighter = sorted(linear(it) @ [0.2126, 0.7152, 0.0722] for it in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def oklab(rgb):
    """Ottosson's Oklab, in which equal distances look equally large (2020)."""
    to_cones = np.array([
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ])  # fmt: skip
    to_lab = np.array([
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ])  # fmt: skip
    return to_lab @ np.cbrt(to_cones @ np.clip(rgb, 0, 1))


def nearest(colours, matrix):
    places = [oklab(matrix @ linear(colour)) for colour in colours]
    return min(np.linalg.norm(one - other) for one, other in combinations(places, 2))


CATEGORIES = [*(f"category-{n}" for n in range(7)), "neutral"]
OKABE_ITO = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999"]


@THEMES
@pytest.mark.parametrize("eyes", SEEN_BY)
def test_categories_keep_apart_for_all_eyes(eyes, theme):
    """No two colours of categories come nearer for anyone than the Okabe-Ito palette's do, less
    a tenth, and those are the reference for the colour-blind.
    """
    reference = min(nearest(OKABE_ITO, matrix) for matrix in SEEN_BY.values())
    colours = [COLOURS[name][theme] for name in CATEGORIES]
    assert nearest(colours, SEEN_BY[eyes]) > 0.9 * reference


@THEMES
@pytest.mark.parametrize("name", [*CATEGORIES, *(f"step-{n}" for n in range(6))])
def test_tiles_carry_text(name, theme):
    """The better of the two inks on each tile reaches 4.5:1, as WCAG 2 AA asks of text."""
    fill = COLOURS[name][theme]
    assert max(contrast(fill, "#141413"), contrast(fill, "#ffffff")) >= 4.5


@THEMES
def test_text_and_controls_can_be_read(theme):
    """Text reaches 4.5:1 on every ground that it stands on, edges of controls reach 3:1."""
    grounds = [COLOURS[name][theme] for name in ("paper", "panel", "wash", "chosen")]
    for name in ("ink", "soft", "accent", "minus"):
        assert min(contrast(COLOURS[name][theme], ground) for ground in grounds) >= 4.5, name
    assert min(contrast(COLOURS["edge"][theme], ground) for ground in grounds[:2]) >= 3


@THEMES
def test_sizes_go_one_way(theme):
    """The six colours of sizes get steadily darker, or in the dark steadily lighter."""
    lightness = [oklab(linear(COLOURS[f"step-{n}"][theme]))[0] for n in range(6)]
    assert lightness == sorted(lightness, reverse=theme == 0)
    assert min(abs(np.diff(lightness))) > 0.04
