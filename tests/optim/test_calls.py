"""A training step looks at no declaration: it calls what it calls without them."""

from __future__ import annotations

import collections
import sys

import torch
from torch import nn

import torchcreator as tc
from torchcreator import creators


def layers():
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))


def calls(model):
    """Return how often each function, of Python or C, is called in a later training step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    counted = collections.Counter()

    def count(frame, event, function):
        if event in ("call", "c_call"):
            counted[frame.f_code if event == "call" else function.__name__] += 1

    def step():
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    for _ in range(3):
        step()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        step()
    finally:
        sys.setprofile(before)
    return counted


def test_declarations_add_no_call():
    """Every parameter declared or none: a step is the same, to the last call."""
    kept = tc.variable([1.0], constraint="non_neg")  # so that the hooks are there
    with tc.creator_scope(creators.aggregate("sum"), creators.declare(tags={"lr": 1.0})):
        declared = layers()
    with_them, without = calls(declared), calls(layers())
    assert with_them == without
    assert sum(without.values()) > 100
    del kept
