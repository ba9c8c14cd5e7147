"""TensorFlow, ``saved_model/load.py``, and Keras, ``dtensor/lazy_variable.py``: values that wait.

A model is made of uninitialised variables, which take no memory; later each is given its value.
There it is a class of its own, ``UninitializedVariable``; here the variable is on meta, and its
initial value is kept for later. `defer` and `materialize` do this for every tensor of a model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc


class LazyInitScope:
    """Makes variables without values; ``initialize_all`` gives them theirs."""

    def __init__(self) -> None:
        self.pending: list[tuple[nn.Parameter, Callable[[], torch.Tensor]]] = []

    def __call__(
        self, next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        """Make one on meta; the creator is an object, so that it can remember."""
        value, shape = kwargs["initial_value"], kwargs["shape"]
        assert shape is not None
        kwargs["initial_value"] = torch.empty(tuple(shape), device="meta")
        kwargs["device"] = "meta"
        lazy = next_creator(**kwargs)
        self.pending.append((lazy, value))  # type: ignore[arg-type] # a callable, see initial()
        return lazy

    def initialize_all(self) -> None:
        """Give every variable its value, in place."""
        for lazy, value in self.pending:
            torch.utils.swap_tensors(lazy, nn.Parameter(value(), lazy.requires_grad))
        self.pending.clear()


def make(rows: int) -> tuple[nn.Parameter, LazyInitScope]:
    """Return a table without memory, and what will give it some."""
    scope = LazyInitScope()
    with tc.creator_scope(scope):
        table = tc.variable(lambda: torch.ones(rows, 4), shape=(rows, 4), name="table")
    return table, scope


if __name__ == "__main__":
    table, scope = make(3)
    print(table.device)
    scope.initialize_all()
    print(table)
