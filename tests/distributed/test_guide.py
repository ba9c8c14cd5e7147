"""What the guide shows on two ranks is what two ranks print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from tests.support.ranks import run_ranks

GUIDE = Path(__file__).parents[2] / "docs/guides/distributed.md"
BLOCK = re.compile(
    r'^```python title="on two ranks"\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?',
    re.DOTALL | re.MULTILINE,
)


def test_the_guide(tmp_path):
    """Its blocks run in order on two ranks, and rank 0 prints what stands below each."""
    blocks = BLOCK.findall(GUIDE.read_text())

    def play(rank):
        names, printed = {}, []
        for code, _ in blocks:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, "guide", "exec"), names)
            printed.append(output.getvalue())
        return printed

    assert len(blocks) == 8
    printed, _ = run_ranks(play, 2, tmp_path)
    assert printed == [output for _, output in blocks]
