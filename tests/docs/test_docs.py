"""What the documents show is what happens."""

from __future__ import annotations

import ast
import contextlib
import doctest
import enum
import functools
import importlib
import inspect
import io
import re
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from typing_extensions import is_typeddict

import torchcreator

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
REFERENCE = ROOT / "docs/reference.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

MADE_OF = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages of the site that lie elsewhere in the repository."""

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]*)#?([^)\s]*)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


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
def test_examples_run_and_print_what_is_shown(page, tmp_path, monkeypatch):
    """The examples of a page run in order, and print what the page says they print."""
    monkeypatch.chdir(tmp_path)  # files that they write are theirs
    if "from transformers import" in page.read_text():
        pytest.importorskip("transformers")  # one of the test extra, and large
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
    targets = [target for target, _ in links(page)]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_to_headings_lead_to_one(page):
    """Every link to a heading of a page names one that the page has."""
    there = [
        (target, anchor)
        for target, anchor in links(page)
        if anchor and anchor not in anchors(page.parent / target if target else page)
    ]
    assert there == []


def links(page):
    """Yield the target and the anchor of every link of a page that stays in the repository."""
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" not in target:
            yield target, anchor


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", text).lower().replace(" ", "-") for text in headings}


def test_anchors_are_made_of_headings():
    """A heading's anchor is in lower case, without punctuation, with hyphens for blanks."""
    assert "the-life-of-a-call" in anchors(ROOT / "docs/architecture.md")
    assert "is-it-fast" in anchors(README)


def test_the_navigation_has_every_page():
    """The site's navigation leads to every page, once, and to nothing else."""
    listed = re.findall(r"^ +- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")]
    assert sorted(listed) == sorted([*pages, *MADE_OF])


def test_every_page_is_reached():
    """The index of the documents leads to every page."""
    index = ROOT / "docs/index.md"
    linked = {(index.parent / target).resolve() for target, _ in links(index)}
    pages = {page.resolve() for page in ROOT.glob("docs/**/*.md")} - {index.resolve()}
    assert [title(page) for page in sorted(pages - linked)] == []


def public_names():
    yield from torchcreator.__all__
    for module in ("constraints", "creators", "distributed", "report", "testing"):
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


DIRECTIVE = re.compile(r"^::: torchcreator\.([\w.]+)$", re.MULTILINE)
RENDERED = {
    name for page in ROOT.glob("docs/api/*.md") for name in DIRECTIVE.findall(page.read_text())
}
"""What the API pages render: single names, and modules with all they list."""


@pytest.mark.parametrize("name", list(public_names()))
def test_every_public_name_has_an_api_entry(name):
    """Every public name is rendered on an API page, by itself or with its module."""
    assert name in RENDERED or name.rpartition(".")[0] in RENDERED


def test_the_api_pages_render_nothing_else():
    """No entry of the API pages is a name that is gone."""
    fixtures = {f"pytest_plugin.{name}" for name in plugin_fixtures()}
    assert RENDERED - set(public_names()) == fixtures


def plugin_fixtures():
    return re.findall(r"^@pytest\.fixture.*\ndef (\w+)", plugin_source(), re.MULTILINE)


def plugin_source():
    return (ROOT / "torchcreator/pytest_plugin/__init__.py").read_text()


def test_the_plugin_is_documented():
    """Every fixture, option and marker of the pytest plugin is on its API page."""
    page = (ROOT / "docs/api/pytest.md").read_text()
    marks = importlib.import_module("torchcreator.pytest_plugin._marks")
    options = re.findall(r'addini\(\s*"(\w+)"', plugin_source())
    markers = [marker.partition("(")[0] for marker in marks.MARKERS]
    assert len(plugin_fixtures()) >= 3
    assert len(options) >= 2
    for word in [*plugin_fixtures(), *options, *markers, *marks._ALLOWANCES]:
        assert word in page


def public_callables():
    for name in public_names():
        value = functools.reduce(getattr, name.split("."), torchcreator)
        if callable(value) and not isinstance(value, enum.EnumMeta):
            yield name, value


CALLABLES = dict(public_callables())
NOT_CALLED_BY_USERS = {
    "VariableSpec",
    "creators.Entry",
    "distributed.GradientAggregation",
    "report.Decision",
    "report.Inventory",
    "report.Row",
}
"""They are returned; their docstrings say what they hold."""
CAUGHT_BY_USERS = {
    name
    for name, value in CALLABLES.items()
    if isinstance(value, type) and issubclass(value, torchcreator.TorchCreatorError)
} - {"TorchCreatorError"}
"""They are raised; their arguments are those of the class they all derive from."""


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_callable_has_an_example(name):
    """Every public callable shows in its docstring how it is used; doctest runs it."""
    assert re.search(r"^Example:\n+    >>> ", inspect.getdoc(CALLABLES[name]), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(CALLABLES.keys() - NOT_CALLED_BY_USERS - CAUGHT_BY_USERS))
def test_every_parameter_is_documented(name):
    """Every parameter of a public callable is in the Args of its docstring, and no other."""
    value = CALLABLES[name]
    if getattr(value, "_is_protocol", False) or is_typeddict(value):
        pytest.skip("describes what others call")
    text = inspect.getdoc(value)
    if "The arguments are those of" in text:
        pytest.skip("refers to another name's")
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^    \*{0,2}(\w+):", section[1], re.MULTILINE) if section else []
    assert listed == list(inspect.signature(value).parameters)


def raises_itself(value):
    """Return whether a function, or the making of a class, raises in its own lines."""
    made = (ast.parse(textwrap.dedent(inspect.getsource(value)))).body[0]
    if isinstance(made, ast.ClassDef):
        made = [part for part in made.body if getattr(part, "name", "") in MAKING]
    else:
        made = made.body
    ahead = list(made)
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            return True
        if not isinstance(node, ast.FunctionDef) or node.name in MAKING:
            ahead.extend(ast.iter_child_nodes(node))
    return False


MAKING = ("__init__", "__post_init__")


@pytest.mark.parametrize("name", [name for name in CALLABLES if raises_itself(CALLABLES[name])])
def test_what_raises_says_so(name):
    """Every public callable that raises has a Raises section."""
    assert re.search(r"^Raises:\n    \w+: ", inspect.getdoc(CALLABLES[name]), re.MULTILINE)
