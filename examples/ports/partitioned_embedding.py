"""TensorFlow, ``tpu/tpu_embedding_v2.py`` and ``parameter_server_strategy_v2.py``: table shards.

One variable is asked for, and several are made: the creator calls next_creator once for each
shard, the first ones a row longer where the rows do not divide, and returns an object in the
place of the parameter.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


class ShardedVariable(nn.Module):
    """Rows of one table in several parameters."""

    def __init__(self, shards: list[nn.Parameter]) -> None:
        super().__init__()
        self.shards = nn.ParameterList(shards)

    def lookup(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of the table, each taken from its shard."""
        result: torch.Tensor = self.shards[0].new_zeros(*rows.shape, self.shards[0].shape[1])
        start = 0
        for shard in self.shards:
            inside = (rows >= start) & (rows < start + len(shard))
            found = F.embedding((rows - start).clamp(0, len(shard) - 1), shard)
            result = torch.where(inside[..., None], found, result)
            start += len(shard)
        return result


def partitioned(num_shards: int) -> tc.Creator:
    """Return a creator that splits tables by rows."""

    def creator(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> Any:
        shape = kwargs["shape"]
        if shape is None or len(shape) != 2 or kwargs["module"] is not None:
            return next_creator(**kwargs)
        name = kwargs["name"]
        rows, extra = divmod(shape[0], num_shards)
        shards = []
        for i in range(num_shards):
            kwargs["shape"] = (rows + (i < extra), shape[1])
            kwargs["name"] = f"{name}/part_{i}"
            shards.append(next_creator(**kwargs))
        return ShardedVariable(shards)

    return creator


if __name__ == "__main__":
    with tc.creator_scope(partitioned(3)):
        table: Any = tc.variable(nn.init.normal_, shape=(10, 4), name="table")
    print([tuple(shard.shape) for shard in table.shards])
    print(table.lookup(torch.tensor([[0, 9]])).shape)
