"""Each recipe is short, runs alone, and prints what stands below it."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.distributed.scenarios.loops import in_torchrun
from tests.docs.test_docs import README, ROOT, Example, examples, run
from tests.support.ranks import run_ranks

PAGE = (ROOT / "docs/recipes.md").read_text()
PRELUDE, *SECTIONS = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)
BLOCK = re.compile(
    r'^```python( title="on two ranks")?\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?',
    re.DOTALL | re.MULTILINE,
)
LONGEST = 8
"""Lines of a recipe, blank ones apart."""

((_, BEGINNING, _),) = BLOCK.findall(PRELUDE)
RECIPES = {
    title: BLOCK.findall(text) for title, text in zip(SECTIONS[::2], SECTIONS[1::2], strict=True)
}
README_ON_RANKS = [code for ranks, code, _ in BLOCK.findall(README.read_text()) if ranks]
ALONE = [title for title, ((ranks, _, _),) in RECIPES.items() if not ranks]
TOGETHER = [title for title in RECIPES if title not in ALONE]


def missing(title):
    """Return which of the libraries that a recipe is about are not installed."""
    named = re.findall(r"from (accelerate|transformers) import", RECIPES[title][0][1])
    return [library for library in named if importlib.util.find_spec(library) is None]


def needs(title):
    if missing(title):
        pytest.skip(f"{missing(title)[0]} is not installed")


def follow(title, names):
    """Run a recipe after the page's first block; return what is wrong with it, or nothing."""
    ((_, code, output),) = RECIPES[title]
    exec(compile(BEGINNING, "page", "exec"), names)
    return run(Example(code, output), names)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_short(title):
    """A recipe is one block of at most eight lines, none longer than a screen is wide."""
    ((_, code, _),) = RECIPES[title]
    lines = [line for line in code.splitlines() if line]
    assert len(lines) <= LONGEST
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("title", ALONE)
def test_a_recipe_runs_alone(title, tmp_path, monkeypatch, request):
    """A recipe runs after the page's first block and nothing else, in an empty folder."""
    needs(title)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    assert follow(title, names) == ""
    if "fake_variables" in RECIPES[title][0][1]:
        fixture = request.getfixturevalue("fake_variables")
        for test in [value for name, value in names.items() if name.startswith("test_")]:
            test(fixture)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What is wrong with the first rank's output of each recipe, all followed in one group."""

    def play(rank):
        in_torchrun(rank)
        found = {title: follow(title, {}) for title in TOGETHER if not missing(title)}
        return {**found, "README": run(Example(beginning + README_ON_RANKS[0], None), {})}

    beginning = next(examples(README)).code  # what the block is about

    return run_ranks(play, 2, tmp_path_factory.mktemp("ranks"), timeout=120)[0]


@pytest.mark.parametrize("title", [*TOGETHER, "README"])
def test_a_recipe_runs_on_two_ranks(title, printed):
    """A recipe for two ranks prints what stands below it, on the first."""
    if title in RECIPES:
        needs(title)
    assert printed[title] == ""
