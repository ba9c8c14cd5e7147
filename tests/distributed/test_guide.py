"""What the guide shows on two ranks is what two ranks print."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

from tests.distributed.scenarios.loops import in_torchrun
from tests.support.ranks import run_ranks

FLAGS = re.DOTALL | re.MULTILINE
GUIDES = Path(__file__).parents[2] / "docs/guides"
BLOCK = re.compile(
    r'^```python title="on two ranks"\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?',
    FLAGS,
)


def printed(page, tmp_path, before=lambda rank: None, beginning=""):
    """Return what rank 0 prints in each block of a page, and what the page says it does."""
    blocks = BLOCK.findall((GUIDES / page).read_text())

    def play(rank):
        before(rank)
        names, lines = {"__name__": "guide"}, []
        exec(compile(beginning, "guide", "exec"), names)
        for code, _ in blocks:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, "guide", "exec"), names)
            lines.append(output.getvalue())
        return lines

    lines, _ = run_ranks(play, 2, tmp_path, timeout=150)
    return lines, [output for _, output in blocks]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_many_ranks(tmp_path):
    """The blocks of the guide run in order on two ranks, and rank 0 prints what stands below."""
    got, want = printed("distributed.md", tmp_path)
    assert len(want) >= 8
    assert got == want


def test_other_peoples_loops(tmp_path):
    """The same of the guide to accelerate, Trainer, Lightning and Fabric."""
    for library in ("accelerate", "lightning", "transformers"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    got, want = printed("loops.md", tmp_path, in_torchrun)
    assert len(want) >= 8
    assert got == want


def test_deferred_models_in_parts(tmp_path):
    """The same of the guide to deferred models, after its first block, which defines the model."""
    first = re.search(r"^```python\n(.*?)^```", (GUIDES / "deferred.md").read_text(), FLAGS)[1]
    got, want = printed("deferred.md", tmp_path, beginning=first)
    assert len(want) >= 2
    assert got == want
