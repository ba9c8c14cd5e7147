"""Run a part of the tests against the installed wheel, where the sources cannot be imported.

It installs the wheel in this environment, in place of the sources, and leaves it there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = [
    *("access", "chain", "constraints", "creators", "messages", "modules", "pytest_plugin"),
    *("report", "spec", "testing", "torch", "hardening/test_interpreters.py"),
]
"""What a wheel can be wrong about, in about a minute: modules, data, types, the plugin."""
WHERE = "import torchcreator, torchcreator._api; print(torchcreator.__file__)"


def install(wheel: Path) -> None:
    """Put the wheel in the place of whatever is installed."""
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
    subprocess.run([sys.executable, *pip], check=True)


def run_tests(place: Path) -> None:
    """Run the tests from a copy that has no package beside it."""
    for folder in ("tests", "docs", "examples"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", WHERE], cwd=place, env=environment, check=True, capture_output=True
    ).stdout.decode()
    assert "site-packages" in found, f"torchcreator was imported from {found}"
    tests = [f"tests/{part}" for part in PARTS]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "", *tests],
        cwd=place,
        env=environment,
        check=True,
    )


if __name__ == "__main__":
    install(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as place:
        run_tests(Path(place))
