"""What rests on references to objects passes its tests wherever Python shows more or less of them.

``TORCHCREATOR_TESTS=frozen pytest`` and ``TORCHCREATOR_TESTS=traced pytest`` run all tests so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = [
    "tests/modules/test_existing.py",
    "tests/modules/test_ownership.py",
    "tests/modules/test_ownership_unseen.py",
    "tests/modules/test_seen.py",
    "tests/build/test_references.py",
    "tests/creators/test_ledger.py",
    "tests/recorder/test_live_tensors.py",
    "tests/spec/test_lookup.py",
]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["frozen", "traced"])
def test_the_core_passes(how):
    """Ties, fresh parameters, names and loose tensors are told apart and found."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *CORE],
        cwd=ROOT,
        env={**os.environ, "TORCHCREATOR_TESTS": how},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr
