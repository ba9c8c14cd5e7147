"""A model with all that a deferred one may have, and what is done to it before it is copied."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("table", torch.rand(4))
        self.kept = [torch.rand(2), {"deep": (torch.rand(3),)}]
        self.rows = torch.rand(2, 3)
        self.row = self.rows[0]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([Layer() for _ in range(3)])
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight


def assert_same(module, expected):
    """Assert that a layer has another one's values, in all that it holds."""
    assert torch.equal(module.linear.weight, expected.linear.weight)
    assert torch.equal(module.linear.bias, expected.linear.bias)
    assert torch.equal(module.table, expected.table)
    assert torch.equal(module.kept[0], expected.kept[0])
    assert torch.equal(module.kept[1]["deep"][0], expected.kept[1]["deep"][0])
    assert torch.equal(module.rows, expected.rows)
    assert torch.equal(module.row, expected.row)


COPIES = [
    pytest.param(lambda model: model, id="itself"),
    pytest.param(copy.deepcopy, id="copy"),
    pytest.param(lambda model: copy.deepcopy(copy.deepcopy(model)), id="copy of a copy"),
]
