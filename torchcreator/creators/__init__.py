"""Ready-made creators: the everyday reasons to decide how parameters are made."""

from __future__ import annotations

from torchcreator.creators._ledger import Entry, Ledger
from torchcreator.creators._watching import record

__all__ = ["Entry", "Ledger", "record"]
