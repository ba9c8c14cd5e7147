"""TensorFlow Federated, ``learning/models/functional.py``: a model around tensors that are given.

There a Keras model is cloned while a creator hands out given tensors in the place of its
variables, in order; here any module is constructed so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


def clone_with(tensors: Iterable[torch.Tensor], factory: Callable[[], nn.Module]) -> nn.Module:
    """Return a model whose parameters are the given tensors, in the order of creation."""
    remaining = iter(tensors)

    def create_tensor_variable(
        next_creator: tc.NextCreator, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        tensor = next(remaining)
        if tuple(tensor.shape) != tuple(kwargs["shape"] or tensor.shape):
            raise ValueError(f"{kwargs['name']}: {tuple(tensor.shape)} is not {kwargs['shape']}")
        return nn.Parameter(tensor)  # next_creator is never called

    with tc.creator_scope(create_tensor_variable):
        return factory()


if __name__ == "__main__":
    model = clone_with([torch.eye(2), torch.ones(2)], lambda: nn.Linear(2, 2))
    print(model(torch.tensor([[1.0, 2.0]])))
