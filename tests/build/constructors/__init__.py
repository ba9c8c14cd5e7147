"""Constructors that do what a recorder may get wrong; each is built and compared with itself."""

from __future__ import annotations

from tests.build.constructors import draws, kinds, loading, modules, tensors
from tests.build.constructors.register import CONSTRUCTORS

__all__ = ["CONSTRUCTORS", "draws", "kinds", "loading", "modules", "tensors"]
