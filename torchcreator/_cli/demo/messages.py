"""What a rank tells the process that shows the demo: plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A variable and its policies, as words."""

    name: str
    shape: str
    trainable: str
    constraint: str
    synchronization: str
    aggregation: str


@dataclass(frozen=True)
class Variables:
    """All variables of the model, told before training."""

    rows: Sequence[Row]


@dataclass(frozen=True)
class Progress:
    """How training stands at the end of an epoch."""

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Gradient:
    """One variable's gradient over one batch.

    Attributes:
        aggregation: The policy it falls under, in lower case.
        own: What this rank's own batch gives.
        reduced: What the synchronised backward left in ``.grad``.
    """

    aggregation: str
    own: Sequence[float]
    reduced: Sequence[float]


@dataclass(frozen=True)
class Report:
    """What one rank found after training; each mapping is by the variable's name.

    Attributes:
        replicated: A digest of each variable that is declared to be equal on all ranks.
        per_rank: A digest of each trained variable that is declared to be the rank's own.
        frozen: Whether a variable that is not trained still has its first value.
        overshoot: How far a constrained variable is from where its constraint would put it.
        longest_rows: The norm of a constrained matrix's longest row.
        gradients: The gradient of each trained variable over one batch.
        counted: What the counter reads, over all ranks.
        fed: How many scans this rank was fed.
        accuracy: The share of the held-out scans that this rank's model reads right.
    """

    replicated: Mapping[str, str]
    per_rank: Mapping[str, str]
    frozen: Mapping[str, bool]
    overshoot: Mapping[str, float]
    longest_rows: Mapping[str, float]
    gradients: Mapping[str, Gradient]
    counted: int
    fed: int
    accuracy: float
