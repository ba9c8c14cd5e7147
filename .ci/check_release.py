"""Check what the files say of a release: its version, its changes, and that nothing is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def complaints() -> Iterator[str]:
    """Yield what keeps this commit from being released."""
    version = _found(r'^__version__ = "([^"]+)"$', "torchcreator/__init__.py")
    changes = (ROOT / "CHANGELOG.md").read_text()
    unreleased = _found(r"^## Unreleased\n(.*?)(?=^## |\Z)", "CHANGELOG.md")
    if unreleased.strip():
        yield "CHANGELOG.md has changes under Unreleased: give them the version's heading."
    if not re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changes, re.MULTILINE):
        yield f"__version__ is {version}; CHANGELOG.md has no heading '## {version} - YYYY-MM-DD'."
    if _git("tag", "--list", f"v{version}"):
        yield f"The tag v{version} is there already: raise __version__."
    if not os.environ.get("TORCHCREATOR_ADDRESS"):
        yield "TORCHCREATOR_ADDRESS is not set: the package is to say where its repository is."
    if _git("status", "--porcelain"):
        yield "There are changes that are not committed: commit them, or put them away."


def _found(pattern: str, file: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{file} has nothing like {pattern}"
    return found[1]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit("\n".join(complaints()) or None)
