"""What the documents show is what happens."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

import torchcreator

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "docs/reference.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(#[^)\s]*)?\)")


@dataclass(frozen=True)
class Example:
    """A Python block of a page, and the output block that follows it, if one does."""

    code: str
    output: str | None


def title(page):
    return page.relative_to(ROOT).as_posix()


def examples(page):
    blocks = FENCE.findall(page.read_text())
    for (language, text), (next_language, output) in pairwise([*blocks, ("", "")]):
        if language in ("python", "pycon"):
            yield Example(text, output if next_language == "text" else None)


def run(example, names):
    """Run an example in the names of its page; return what is wrong with it, or nothing."""
    printed = io.StringIO()
    if example.code.lstrip().startswith(">>>"):
        session = doctest.DocTestParser().get_doctest(example.code, names, "page", None, 0)
        doctest.DocTestRunner().run(session, out=printed.write, clear_globs=False)
        names.update(session.globs)
        return printed.getvalue()
    with contextlib.redirect_stdout(printed):
        exec(compile(example.code, "page", "exec"), names)
    return "" if example.output in (None, printed.getvalue()) else printed.getvalue()


with_examples = [page for page in PAGES if any(examples(page))]


@pytest.mark.parametrize("page", with_examples, ids=title)
def test_examples_run_and_print_what_is_shown(page):
    """The examples of a page run in order, and print what the page says they print."""
    names = {"__name__": "page"}
    for example in examples(page):
        assert run(example, names) == ""


def test_the_runner_of_examples_sees_a_wrong_one():
    """An example that prints something else than shown is found, in both forms."""
    assert run(Example("print(1)\n", "2\n"), {}) == "1\n"
    assert run(Example(">>> 1 + 1\n3\n", None), {})
    assert run(Example(">>> 1 + 1\n2\n", None), {}) == ""


def test_the_readme_is_short():
    """The README is at most 150 lines, and begins with an example of at most 20."""
    assert len(README.read_text().splitlines()) <= 150
    first = next(examples(README))
    assert len([line for line in first.code.splitlines() if line]) <= 16
    assert first.output


def test_the_commands_of_the_readme_are_those_of_ci():
    """The README has two set-up commands, each one line, and .ci/run runs both as they stand."""
    commands = [text for language, text in FENCE.findall(README.read_text()) if language == "bash"]
    assert len(commands) == 2
    ci = (ROOT / ".ci/run").read_text().splitlines()
    for command in commands:
        assert command.count("\n") == 1
        assert command.strip() in ci


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page):
    """Every relative link of a page leads to a file of the repository."""
    targets = [target for target, _ in LINK.findall(page.read_text()) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_every_page_is_reached():
    """The index of the documents leads to every page."""
    index = ROOT / "docs/index.md"
    linked = {(index.parent / target).resolve() for target, _ in LINK.findall(index.read_text())}
    pages = {page.resolve() for page in ROOT.glob("docs/**/*.md")} - {index.resolve()}
    assert [title(page) for page in sorted(pages - linked)] == []


def public_names():
    yield from torchcreator.__all__
    for module in ("constraints", "creators", "distributed", "testing"):
        for name in importlib.import_module(f"torchcreator.{module}").__all__:
            yield f"{module}.{name}"


@pytest.mark.parametrize("name", list(public_names()))
def test_every_public_name_is_documented(name):
    """Every public name has an entry on the reference page."""
    assert f"| `{name}` |" in REFERENCE.read_text()


def test_the_reference_lists_nothing_else():
    """No entry of the reference page is a name that is gone."""
    listed = re.findall(r"^\| `([\w.]+)` \|", REFERENCE.read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(public_names())
