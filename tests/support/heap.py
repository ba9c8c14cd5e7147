"""What the garbage collector, and so `gc.get_referrers`, sees of the process."""

from __future__ import annotations

import gc
from collections.abc import Iterator


def all_in_sight() -> Iterator[None]:
    """Let everything be found, as where nobody called `gc.freeze`: the body of a fixture.

    Each walk over a million objects takes a tenth of a second: only where it matters what it finds.
    """
    gc.unfreeze()
    yield
    gc.collect()  # what is out of sight is never collected
    gc.freeze()
