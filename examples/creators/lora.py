"""LoRA (Hu et al., 2021) in one creator: all is frozen, and some layers learn a low-rank update.

It serves while a module constructs itself, in a build, and for a model that is finished. Run it
with ``python examples/creators/lora.py``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def add_update(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """Return what a layer returns, and the update times what it was given."""
    update: torch.Tensor = inputs[0] @ layer.lora_a.T @ layer.lora_b.T
    return output + update


def lora(rank: int = 4, name: str = "*") -> tc.Creator:
    """Return the creator; of the layers that ``name`` means, `nn.Linear` are adapted."""

    def adapt(next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]) -> nn.Parameter:
        weight, layer = next_creator(**kwargs), kwargs["module"]
        assert isinstance(layer, nn.Linear)
        for local, shape, begin in (
            ("lora_a", (rank, layer.in_features), nn.init.kaiming_uniform_),
            ("lora_b", (layer.out_features, rank), nn.init.zeros_),  # it begins as what it was
        ):  # By the rest of the chain: creators further out are asked, and this one is not.
            update = next_creator(
                name=str(kwargs["name"]).removesuffix("weight") + local,
                shape=shape,
                initial_value=begin,
                dtype=weight.dtype,
                device=weight.device,
                module=layer,
            )
            layer.register_parameter(local, update)
        layer.register_forward_hook(add_update)
        return weight

    weights = tc.creators.where(adapt, name="*.weight", module=nn.Linear)
    adapted = tc.creators.where(weights, name=name)

    def creator(
        next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        kwargs["trainable"] = False
        return adapted(next_creator, **kwargs)

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
