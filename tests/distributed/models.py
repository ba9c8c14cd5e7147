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

    def __init__(self, rank: int, *, nested: bool = True) -> None:
        super().__init__()
        start = float(rank)  # the entry points must make the shared ones equal
        self.summed = variable([start], name="summed", aggregation="sum")
        self.mean = variable([start], name="mean", aggregation="mean")
        self.first = variable([start], name="first", aggregation="only_first_replica")
        self.plain = nn.Parameter(torch.tensor([start]))
        self.frozen = variable([start], name="frozen", trainable=False)
        self.local = variable([start], name="local", synchronization="none")
        self.counter = variable(
            [start], name="counter", synchronization="on_read", aggregation="sum"
        )
        if nested:
            self.nested = Policies(rank, nested=False)

    def parts(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(p * x).sum() for p in self.parts()]).sum()


POLICIES = ("summed", "mean", "first", "plain", "local")


def gradients(model: nn.Module) -> dict[str, float | None]:
    """Return the gradient of each parameter of one element, by its name in the bare model."""
    return {
        name.removeprefix("module."): None if p.grad is None else p.grad.item()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def expected(rank: int, *, backwards: int = 1) -> dict[str, float]:
    """Return what `gradients` must give on two ranks after that many backwards."""
    one = {"summed": 3.0, "mean": 1.5, "first": 1.0, "plain": 1.5, "local": rank + 1.0}
    return {
        prefix + name: value * backwards
        for prefix in ("", "nested.")
        for name, value in one.items()
    }


def feed(rank: int) -> torch.Tensor:
    """Return the input of a rank: ``[rank + 1]``."""
    return torch.tensor([rank + 1.0])
