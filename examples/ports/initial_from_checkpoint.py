"""TensorFlow models, ``audioset/vggish/vggish_export_tfhub.py``: initial values by name.

The creator stands as it was written, with a mapping for the checkpoint reader. In a build the
names are those of ``named_parameters``; `creators.from_checkpoint` does all of it, and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def restored(
    factory: Callable[[], nn.Module], checkpoint: Mapping[str, torch.Tensor]
) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return a model that begins with the checkpoint's values, and its variables."""
    variables: list[nn.Parameter] = []

    def variable_creator(
        next_creator: tc.NextCreator, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        name = kwargs["name"]
        assert name is not None
        kwargs["initial_value"] = checkpoint[name]
        v = next_creator(**kwargs)
        variables.append(v)
        return v

    with tc.creator_scope(variable_creator):
        return tc.build(factory), variables


if __name__ == "__main__":
    values = {"0.weight": torch.ones(1, 2), "0.bias": torch.zeros(1)}
    model, variables = restored(lambda: nn.Sequential(nn.Linear(2, 1)), values)
    print(model(torch.ones(1, 2)), len(variables))
