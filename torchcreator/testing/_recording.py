"""A creator that keeps its own ledger."""

from __future__ import annotations

from torch import nn
from typing_extensions import Unpack

from torchcreator._spec.types import NextCreator, VariableKwargs
from torchcreator.creators import Ledger, record


class RecordingCreator:
    """Make variables as if it were not there, and write each one down.

    Attributes:
        ledger: What was made: names, shapes, owners, creators, in the order of creation.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> recording = tc.testing.RecordingCreator()
        >>> with tc.creator_scope(recording):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
        >>> recording.ledger.names
        ['0.weight', '0.bias', '1.weight']
        >>> recording.ledger.assert_created("*.weight", count=2)
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._record = record(self.ledger)

    def __call__(
        self, next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]
    ) -> nn.Parameter:
        return self._record(next_creator, **kwargs)

    def __repr__(self) -> str:
        return "RecordingCreator()"
