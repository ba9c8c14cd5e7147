"""Who is called, and with what.

What TensorFlow's chain does too, the order first of all, is in `tests/conformance/tensorflow/`.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn

import torchcreator as tc
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


def test_the_initial_value_may_come_from_a_creator():
    """Nothing is missing as long as somebody supplies a value before the default creator."""
    with tc.creator_scope(lambda next_creator, **kw: next_creator(**{**kw, "initial_value": 5.0})):
        assert tc.variable(name="w").item() == 5.0


def test_the_default_creator_is_the_end_of_every_chain():
    """`default_creator` as a creator makes what no creator at all makes."""
    with scope("outer"), tc.creator_scope(lambda _, **kwargs: tc.default_creator(**kwargs)):
        assert called(lambda: tc.variable(1.0)) == []
        assert tc.variable(1.0).item() == 1.0
