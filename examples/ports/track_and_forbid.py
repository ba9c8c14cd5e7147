"""Ray RLlib, ``models/catalog.py`` and ``policy/eager_tf_policy.py``: find and forbid variables.

One creator finds variables that a model made and did not register; the other refuses any that is
made in a forward pass. Both stand as they were written, but for ``v.ref()``, which is ``id(v)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def checked_model(factory: Callable[[], nn.Module]) -> nn.Module:
    """Return the factory's model; one that forgot to register a variable is an error."""
    created: dict[int, nn.Parameter] = {}

    def track_var_creation(
        next_creator: tc.NextCreator, **kw: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        v = next_creator(**kw)
        created[id(v)] = v
        return v

    with tc.creator_scope(track_var_creation):
        instance = factory()
    registered = {id(parameter) for parameter in instance.parameters()}
    not_registered = [v for v in created.values() if id(v) not in registered]
    if not_registered:
        shapes = [tuple(v.shape) for v in not_registered]
        raise ValueError(f"It looks like you are still using variables of shapes {shapes}.")
    return instance


def _disallow_var_creation(
    next_creator: tc.NextCreator, **kw: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    raise ValueError(
        "Detected a variable being created during an eager forward pass. Variables should only be "
        f"created during model initialization: {kw['name']}"
    )


def compute_actions(model: nn.Module, observation: torch.Tensor) -> torch.Tensor:
    """Run the model, which may make no variable."""
    with tc.creator_scope(_disallow_var_creation):
        output: torch.Tensor = model(observation)
    return output


if __name__ == "__main__":
    print(compute_actions(checked_model(lambda: nn.Linear(2, 3)), torch.ones(1, 2)))
