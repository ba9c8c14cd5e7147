"""The page on testing shows tests; they run, and print what it says they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent.parent.parent / "docs/guides/testing.md"
TITLED = re.compile(r'^```\w+ title="([\w.]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
BLOCKS = TITLED.findall(GUIDE.read_text())


@pytest.mark.parametrize("name", [title for title, _ in BLOCKS if title.endswith(".py")])
def test_the_tests_of_the_page_run(suite, name):
    """Each file that the page shows runs, and passes but for the one that is to fail."""
    suite.pytester.path.joinpath(name).write_text(dict(BLOCKS)[name])
    result = suite.run("--strict-markers")
    outcomes = result.parseoutcomes()
    leaves = name == "test_leaves.py"
    assert set(outcomes) == ({"passed", "errors"} if leaves else {"passed"}), outcomes
    if leaves:
        assert dict(BLOCKS)["pytest"] in result.stdout.str()
