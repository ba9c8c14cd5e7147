"""Weights in eight bits: one creator, and in a build no floating copy of the model ever.

Each matrix is rounded to one of 255 levels of its row's largest magnitude; the module computes
with the levels times the scales. In a build and for a finished model: while a module constructs
itself there is no value yet that could be rounded. Run it with
``python examples/creators/quantised.py``.
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
        kwargs["tags"] = {**(kwargs["tags"] or {}), "scale": scale}
    return next_creator(**kwargs)


def quantised(model: nn.Module) -> nn.Module:
    """Let every module compute with what its levels stand for."""
    for name, _, spec in list(tc.named_specs(model)):
        if "scale" in spec.tags:
            for each in spec.tags.get("names", (name,)):  # of a tie, all
                path, _, local = each.rpartition(".")
                module, read = model.get_submodule(path), Dequantise(spec.tags["scale"])
                parametrize.register_parametrization(module, local, read, unsafe=True)
    return model


def main() -> None:
    """Quantise a model as it is built, and one that is finished."""
    with tc.creator_scope(eight_bits):
        built = quantised(tc.build(nn.Linear, 256, 64, seed=0))
    finished = tc.build(nn.Linear, 256, 64, seed=0)
    before = finished(torch.ones(1, 256))
    with tc.creator_scope(eight_bits):
        quantised(tc.recreate(finished))
    assert torch.equal(built(torch.eye(256)), finished(torch.eye(256)))
    kept = sum(p.nbytes for p in finished.parameters()) / (4 * (256 * 64 + 64))
    error = (finished(torch.ones(1, 256)) - before).abs().max().item()
    print(f"{kept:.0%} of the memory, outputs within {error:.2f}")


if __name__ == "__main__":
    main()
