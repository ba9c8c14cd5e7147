"""The example project: its tests pass on fakes, and the script that compares runs them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

COMPARE = Path(__file__).parent.parent.parent / "examples/testing/compare.py"


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_the_example_passes_on_fakes(monkeypatch):
    """Every test of the project passes on fake parameters, as compare.py runs them."""
    spec = importlib.util.spec_from_file_location("compare", COMPARE)
    compare = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare", compare)  # its dataclass looks itself up
    spec.loader.exec_module(compare)
    taken = compare.run()
    assert taken.tests == 15
    assert 0 < taken.seconds < taken.whole
