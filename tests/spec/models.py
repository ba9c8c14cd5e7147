"""What a variable was declared to be survives every way of copying, converting and sharding."""

from __future__ import annotations

import torch
from torch import nn

import torchcreator as tc


def declaring(next_creator, **kwargs):
    """Declare something of its own for every parameter of a stock module."""
    if kwargs["module"] is not None:
        kwargs |= {"aggregation": "mean", "constraint": "non_neg", "tags": {"of": kwargs["name"]}}
    return next_creator(**kwargs)


class Model(nn.Module):
    """A variable of its own, stock modules, a lazy value and a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.gain = tc.variable(torch.ones(4), name="gain", constraint="non_neg", tags={"lr": 2})
        self.steps = tc.variable(0, name="steps", aggregation="only_first_replica")
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

    def forward(self, x):
        return self.body(x * self.gain)


def model():
    """Make one."""
    with tc.creator_scope(declaring):
        return Model()


def declared(module):
    """Return the spec of each parameter by full name."""
    return {name: spec for name, _, spec in tc.named_specs(module)}


def step(module):
    """Take a step that would leave every trainable parameter negative."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for p in trained:
        p.grad = torch.full_like(p, 100.0)
    optimizer.step()
    return trained
