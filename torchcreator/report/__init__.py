"""What a model consists of, and who decided it: what `inspect` returns."""

from __future__ import annotations

from torchcreator.report._inventory import Inventory
from torchcreator.report._rows import Decision, Row

__all__ = ["Decision", "Inventory", "Row"]
