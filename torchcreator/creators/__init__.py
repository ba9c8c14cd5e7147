"""Ready-made creators: the everyday reasons to decide how parameters are made."""

from __future__ import annotations

from torchcreator.creators._checkpoint import from_checkpoint
from torchcreator.creators._declare import declare
from torchcreator.creators._elementwise import elementwise
from torchcreator.creators._ledger import Entry, Ledger
from torchcreator.creators._placement import cast, fake, meta, on
from torchcreator.creators._policies import aggregate, constrain, freeze, local, optimizer
from torchcreator.creators._ranks import mirrored, sharded
from torchcreator.creators._values import initialize, share
from torchcreator.creators._watching import forbid, progress, record
from torchcreator.creators._where import where

__all__ = [
    "Entry",
    "Ledger",
    "aggregate",
    "cast",
    "constrain",
    "declare",
    "elementwise",
    "fake",
    "forbid",
    "freeze",
    "from_checkpoint",
    "initialize",
    "local",
    "meta",
    "mirrored",
    "on",
    "optimizer",
    "progress",
    "record",
    "sharded",
    "share",
    "where",
]
