"""LoRA (Hu et al., 2021) in one creator: all is frozen, and some layers learn a low-rank update.

It serves while a module constructs itself, in a build, and for a model that is finished. Run it
with ``python examples/creators/lora.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc

Initialiser = Callable[[torch.Tensor], object]


def add_update(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """Return what a layer returns, and the update times what it was given."""
    return output + inputs[0] @ layer.lora_a.T @ layer.lora_b.T


def lora(rank: int = 4, name: str = "*") -> tc.Creator:
    """Return the creator; of the layers that ``name`` means, `nn.Linear` are adapted."""

    def adapt(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
        weight, layer = next_creator(**kwargs), kwargs["module"]
        assert isinstance(layer, nn.Linear)
        like: tc.VariableKwargs = {"dtype": weight.dtype, "device": weight.device, "module": layer}

        def update(local: str, begin: Initialiser, *shape: int) -> None:
            # By the rest of the chain: creators further out are asked about it, this one is not.
            path = str(kwargs["name"]).removesuffix("weight")
            made = next_creator(initial_value=begin, shape=shape, name=path + local, **like)
            layer.register_parameter(local, made)

        update("lora_a", nn.init.kaiming_uniform_, rank, layer.in_features)
        update("lora_b", nn.init.zeros_, layer.out_features, rank)  # it begins as what it was
        layer.register_forward_hook(add_update)
        return weight

    weights = tc.creators.where(adapt, name="*.weight", module=nn.Linear)
    adapted = tc.creators.where(weights, name=name)

    def creator(
        next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        return adapted(next_creator, **{**kwargs, "trainable": False})

    return creator


def model() -> nn.Module:
    """Return a model that knows nothing of this."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))


def main() -> None:
    """Adapt a model in each of the three moments."""
    with tc.creator_scope(lora(rank=2)):
        constructed = model()
    with tc.creator_scope(lora(rank=2, name="2.*")):
        built = tc.build(model)
    finished = model()
    before = finished(torch.ones(1, 16))
    with tc.creator_scope(lora(rank=2, name="0.*")):
        tc.recreate(finished)
    assert torch.equal(finished(torch.ones(1, 16)), before)
    for moment, made in {"scope": constructed, "build": built, "recreate": finished}.items():
        trained = [name for name, p in made.named_parameters() if p.requires_grad]
        print(f"{moment:9}{', '.join(trained)}")


if __name__ == "__main__":
    main()
