"""``python -m torchcreator``, and the ``torchcreator`` command."""

from __future__ import annotations

from torchcreator._cli.commands import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
