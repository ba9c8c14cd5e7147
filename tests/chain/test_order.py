"""Who is called, and with what.

What TensorFlow's chain does too, the order first of all, is in `tests/conformance/tensorflow/`.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn

import torchcreator as tc
from tests.chain.log import KEYWORDS
from tests.support.log import called, scope


def test_a_deep_chain_calls_every_creator():
    """A hundred scopes deep, each creator is called once, in order."""
    with contextlib.ExitStack() as stack:
        for depth in range(100):
            stack.enter_context(scope(str(depth)))
        assert called() == [str(depth) for depth in reversed(range(100))]


def test_a_creator_receives_the_callers_raw_values():
    """Nothing is resolved before the creators ran."""
    seen = {}
    owner, tags, device = nn.Module(), {"decay": False}, "cpu"

    def creator(next_creator, **kwargs):
        seen.update(kwargs)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        tc.variable(
            1, name="a b/c", synchronization="on_read", aggregation="Sum", device=device, tags=tags,
            module=owner, constraint="non_neg", dtype=torch.float64, shape=[],
        )  # fmt: skip
    assert seen["tags"] is tags
    assert seen["module"] is owner
    assert {
        word: seen[word] for word in ("name", "device", "constraint", "shape", "trainable")
    } == {
        "name": "a b/c",
        "device": "cpu",
        "constraint": "non_neg",
        "shape": [],
        "trainable": None,
    }
    assert (seen["synchronization"], seen["aggregation"]) == ("on_read", "Sum")


def test_a_stock_modules_parameter_brings_the_same_keywords():
    """For a stock module, the keys are the same; module, name and shape are its own."""
    seen = []

    def creator(next_creator, **kwargs):
        seen.append(kwargs)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        layer = nn.Linear(2, 3)
    assert [set(kwargs) for kwargs in seen] == [KEYWORDS, KEYWORDS]
    assert [(k["module"], k["name"], k["shape"], k["initial_value"]) for k in seen] == [
        (layer, "weight", (3, 2), None),
        (layer, "bias", (3,), None),
    ]


def test_the_initial_value_may_come_from_a_creator():
    """Nothing is missing as long as somebody supplies a value before the default creator."""
    with tc.creator_scope(lambda next_creator, **kw: next_creator(**{**kw, "initial_value": 5.0})):
        assert tc.variable(name="w").item() == 5.0
