"""The quickstart is one file that runs, and its commands are those of its page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

from tests.docs.test_docs import FENCE, ROOT

PAGE = (ROOT / "docs/quickstart.md").read_text()
FILE = re.search(r'^```python title="([\w.]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)


def test_the_file_is_copied_and_run(tmp_path):
    """The page's file runs by the page's command, prints what the page shows, and is inspected."""
    (tmp_path / FILE[1]).write_text(FILE[2])
    blocks = FENCE.findall(PAGE)
    _, run, inspect = (text.strip() for language, text in blocks if language == "bash")
    (shown,) = (text for language, text in blocks if language == "text")
    assert in_venv(run, tmp_path) == shown
    assert "head.weight" in in_venv(inspect, tmp_path)


def in_venv(command, folder):
    """Run a command that names the environment's programs by this one's."""
    program, *words = shlex.split(command)
    start = {".venv/bin/python": [], ".venv/bin/torchcreator": ["-m", "torchcreator"]}[program]
    done = subprocess.run(
        [sys.executable, *start, *words], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
