"""Check a built sdist: it holds what is under version control, and builds the same wheel."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
ADDED = {"PKG-INFO"}
"""What the build adds."""


def check_contents(sdist: Path) -> None:
    """Check that the sdist holds every file that git knows, and nothing else."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    expected = {name for name in tracked if (ROOT / name).exists()} | ADDED
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert held == expected, sorted(held ^ expected)


def check_same_wheel(from_sdist: Path, direct: Path) -> None:
    """Check that two wheels hold the same bytes under the same names."""
    with ZipFile(from_sdist) as one, ZipFile(direct) as other:
        contents = [{name: z.read(name) for name in z.namelist()} for z in (one, other)]
    names = set(contents[0]) | set(contents[1])
    differing = [name for name in names if contents[0].get(name) != contents[1].get(name)]
    assert not differing, sorted(differing)


if __name__ == "__main__":
    sdist, from_sdist, direct = (Path(argument).resolve() for argument in sys.argv[1:])
    check_contents(sdist)
    check_same_wheel(from_sdist, direct)
