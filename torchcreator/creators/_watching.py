"""Creators that watch: what is made, how far it got, and that nothing is."""

from __future__ import annotations

from torch import nn
from typing_extensions import Unpack

from torchcreator._types import Creator, NextCreator, VariableKwargs
from torchcreator.creators._ledger import Ledger
from torchcreator.creators._named import named


def record(ledger: Ledger) -> Creator:
    """Write down every variable that is made.

    As the innermost creator it is handed what the caller asked for, and its entries show what the
    creators further out changed.

    Args:
        ledger: Where to write it.

    Example:
        >>> import torchcreator as tc
        >>> ledger = tc.creators.Ledger()
        >>> with tc.creator_scope(tc.creators.record(ledger)):
        ...     gain = tc.variable([1.0, 2.0], name="gain")
        >>> print(ledger)
        gain: (2,), torch.float32, cpu
    """

    @named("record(...)")
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        made = next_creator(**kwargs)
        ledger.add(made, kwargs)
        return made

    return creator
