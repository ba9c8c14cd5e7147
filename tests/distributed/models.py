"""Small models whose gradients are worked out by hand."""

from __future__ import annotations

import torch
from torch import nn

from torchcreator import variable


class Policies(nn.Module):
    """One variable per policy; the gradient of each is the input, so rank r feeds r + 1.

    On two ranks: 1 + 2 = 3 for SUM, 1.5 for MEAN and for what declared nothing, 1 for
    ONLY_FIRST_REPLICA, and the rank's own r + 1 for what is per rank. ``nested`` holds one more of
    each, because DDP spells the names of the root module's parameters differently.
    """

    def __init__(self, rank: int, *, nested: bool = True, per_rank: bool = True) -> None:
        super().__init__()
        start = float(rank)  # the entry points must make the shared ones equal
        self.summed = variable([start], name="summed", aggregation="sum")
        self.mean = variable([start], name="mean", aggregation="mean")
        self.first = variable([start], name="first", aggregation="only_first_replica")
        self.plain = nn.Parameter(torch.tensor([start]))
        self.frozen = variable([start], name="frozen", trainable=False)
        if per_rank:
            self.local = variable([start], name="local", synchronization="none")
            self.counter = variable(
                [start], name="counter", synchronization="on_read", aggregation="sum"
            )
        self.nested = Policies(rank, nested=False, per_rank=per_rank) if nested else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = [p for p in self.parameters(recurse=False) if p.requires_grad]
        total = torch.stack([(p * x).sum() for p in own]).sum()
        return total if self.nested is None else total + self.nested(x)


def gradients(model: nn.Module) -> dict[str, float | None]:
    """Return the gradient of each parameter of one element, by its name in the bare model."""
    return {
        name.removeprefix("module."): None if p.grad is None else whole(p.grad).item()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the shards of all ranks."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def expected(rank: int, *, backwards: int = 1, world_size: int = 2) -> dict[str, float]:
    """Return what `gradients` must give after that many backwards.

    Of three ranks: 1 + 2 + 3 = 6 for SUM, 2 for MEAN, 1 for ONLY_FIRST_REPLICA.
    """
    total = {1: 1.0, 2: 3.0, 3: 6.0}[world_size]
    mean = {1: 1.0, 2: 1.5, 3: 2.0}[world_size]
    one = {"summed": total, "mean": mean, "first": 1.0, "plain": mean, "local": rank + 1.0}
    return {
        prefix + name: value * backwards
        for prefix in ("", "nested.")
        for name, value in one.items()
    }


def feed(rank: int) -> torch.Tensor:
    """Return the input of a rank: ``[rank + 1]``."""
    return torch.tensor([rank + 1.0])
