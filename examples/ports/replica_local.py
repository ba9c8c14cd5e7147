"""Sonnet 2, ``sonnet/src/distribute/replicator.py``: variables that each replica keeps for itself.

The creator stands as it was written; only the two enums are imported from here.
"""

from __future__ import annotations

from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def replica_local_creator(
    next_creator: tc.NextCreator, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Variable creator that by default creates replica local variables."""
    if kwargs["synchronization"] == tc.VariableSynchronization.AUTO:
        kwargs["synchronization"] = tc.VariableSynchronization.ON_READ
        if kwargs["aggregation"] == tc.VariableAggregation.NONE:
            kwargs["aggregation"] = tc.VariableAggregation.ONLY_FIRST_REPLICA
        if kwargs["trainable"] is None:
            kwargs["trainable"] = True
    return next_creator(**kwargs)


def make() -> tuple[nn.Module, nn.Parameter]:
    """Return a layer of each replica's own, and a variable that says otherwise itself."""
    with tc.creator_scope(replica_local_creator):
        return nn.Linear(2, 3), tc.variable(0.0, name="loss", synchronization="on_write")


if __name__ == "__main__":
    layer, loss = make()
    for parameter in (*layer.parameters(), loss):
        print(tc.spec_of(parameter))
