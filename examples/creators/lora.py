"""LoRA in one creator: every weight is frozen, and gets a low-rank update that is trained.

A parametrization adds the update where the weight is read, so no module is rewritten.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize
from typing_extensions import Unpack

import torchcreator as tc


class LowRank(nn.Module):
    """Adds ``b @ a`` to a weight of shape (out_features, in_features)."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, weight.shape[1]) / rank)
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        return weight + self.b @ self.a


def lora(model: nn.Module, rank: int = 4) -> nn.Module:
    """Adapt what ``mark`` has marked."""
    for name, weight, spec in list(tc.named_specs(model)):
        if spec.tags.get("lora") and weight.ndim == 2:
            path, _, local = name.rpartition(".")
            update = LowRank(weight, rank)
            parametrize.register_parametrization(model.get_submodule(path), local, update)
    return model


def mark(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
    """Freeze everything, and mark the weights that get an update."""
    kwargs["trainable"] = False
    kwargs["tags"] = {"lora": True}
    return next_creator(**kwargs)
