"""The model: stock modules that know nothing of this library, made under a few scopes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

import torchcreator as tc
from torchcreator.constraints import MaxNorm

PIXELS, LIFTED, HIDDEN, DIGITS = 64, 128, 64, 10
LONGEST_ROW = 1.0


def declare(**policies: Any) -> tc.Creator:
    """Return a creator that overrides keywords of the variables made in its scope."""

    def declaring(
        next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
    ) -> nn.Parameter:
        return next_creator(**{**kwargs, **policies})

    return declaring


def bound_matrices(
    next_creator: tc.NextCreator, /, **kwargs: Unpack[tc.VariableKwargs]
) -> nn.Parameter:
    """Keep the rows of every matrix from growing longer than ``LONGEST_ROW``."""
    if len(kwargs["shape"] or ()) == 2:
        kwargs["constraint"] = MaxNorm(LONGEST_ROW)
    return next_creator(**kwargs)


def classifier() -> nn.Sequential:
    """Return a new classifier of digits, its policies declared, and a count of scans seen."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with tc.creator_scope(declare(trainable=False)):
        layers["lift"] = nn.Linear(PIXELS, LIFTED)
    layers["relu"] = nn.ReLU()
    with tc.creator_scope(bound_matrices):
        layers["hidden"] = nn.Linear(LIFTED, HIDDEN)
        with tc.creator_scope(declare(aggregation="sum")):
            layers["gain"] = nn.RMSNorm(HIDDEN)
        with tc.creator_scope(declare(aggregation="only_first_replica")):
            layers["slope"] = nn.PReLU()
        with tc.creator_scope(declare(synchronization="none")):
            layers["expert"] = nn.Linear(HIDDEN, HIDDEN)
        layers["gelu"] = nn.GELU()
        layers["head"] = nn.Linear(HIDDEN, DIGITS)
    model = nn.Sequential(layers)
    model.register_parameter("scans_seen", _counter())
    return model


def _counter() -> nn.Parameter:
    """Return a count that each rank keeps to itself and that reads as the sum over the ranks."""
    return tc.variable(
        0, dtype=torch.int64, name="scans_seen", synchronization="on_read", aggregation="sum"
    )
