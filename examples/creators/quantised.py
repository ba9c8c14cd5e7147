"""Weights in eight bits from the start: one creator, and no floating copy of the model ever.

Each weight is rounded to one of 255 levels of its row's largest magnitude as it is made; the
module computes with the levels times the scales.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from typing_extensions import Unpack

import torchcreator as tc


class Dequantise(nn.Module):
    """Returns the weight that the levels stand for; scales are (out_features, 1)."""

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.scale = nn.Buffer(scale)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Return levels times scales."""
        return levels * self.scale


def eight_bits(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Make a matrix as int8 levels, with its scales in the tags."""
    value: Any = kwargs["initial_value"]
    if len(kwargs["shape"] or ()) == 2:
        weight = value()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        kwargs["initial_value"] = (weight / scale).round().to(torch.int8)
        kwargs["dtype"] = torch.int8
        kwargs["trainable"] = False
        kwargs["tags"] = {"scale": scale}
    return next_creator(**kwargs)


def quantised(model: nn.Module) -> nn.Module:
    """Let every module compute with what its levels stand for."""
    for name, _, spec in list(tc.named_specs(model)):
        if "scale" in spec.tags:
            path, _, local = name.rpartition(".")
            module, read = model.get_submodule(path), Dequantise(spec.tags["scale"])
            parametrize.register_parametrization(module, local, read, unsafe=True)
    return model
