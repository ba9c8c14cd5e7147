"""Who is called in which order, and with what."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

import torchcreator as tc
from tests.chain.log import KEYWORDS
from tests.support.log import LOG, called, logging, scope

# Order ----------------------------------------------------------------------------------------


def test_the_innermost_creator_is_called_first():
    """Creators are called from the innermost scope outward, and return in the other order."""
    log = []
    with (
        tc.creator_scope(logging(log, "outer")),
        tc.creator_scope(logging(log, "middle")),
        tc.creator_scope(logging(log, "inner")),
    ):
        tc.variable(1.0)
    assert log == ["inner>", "middle>", "outer>", "<outer", "<middle", "<inner"]


def test_the_outermost_has_the_last_word_on_keywords_the_innermost_on_the_result():
    """A keyword set inside is seen, and may be changed, outside; the result travels back."""
    other = nn.Parameter(torch.zeros(1))

    def inner(next_creator, **kwargs):
        made = next_creator(**{**kwargs, "name": "inner"})
        assert tc.spec_of(made).name == "outer"
        return other

    def outer(next_creator, **kwargs):
        assert kwargs["name"] == "inner"
        return next_creator(**{**kwargs, "name": "outer"})

    with tc.creator_scope(outer), tc.creator_scope(inner):
        assert tc.variable(1.0) is other


def test_the_same_creator_in_two_scopes_is_called_twice():
    """Scopes count, not creators."""
    creator = logging(LOG, "twice")
    with tc.creator_scope(creator), tc.creator_scope(creator):
        assert called() == ["twice", "twice"]


def test_a_deep_chain_calls_every_creator():
    """A hundred scopes deep, each creator is called once, in order."""
    with contextlib.ExitStack() as stack:
        for depth in range(100):
            stack.enter_context(scope(str(depth)))
        assert called() == [str(depth) for depth in reversed(range(100))]


# What a creator receives ------------------------------------------------------------------------


def test_a_creator_receives_every_keyword():
    """Creators always get all keywords, and the defaults are the documented ones."""
    seen = {}

    def creator(next_creator, **kwargs):
        seen.update(kwargs)
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        tc.variable(3.0)
    assert seen == {
        **dict.fromkeys(KEYWORDS),
        "initial_value": 3.0,
        "validate_shape": True,
        "synchronization": tc.VariableSynchronization.AUTO,
        "aggregation": tc.VariableAggregation.NONE,
    }


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


def test_changing_keywords_in_place_stays_in_the_creator():
    """What a creator does to its dictionary reaches neither the caller nor a second call."""
    seen = []

    def vandal(next_creator, **kwargs):
        seen.append(dict(kwargs))
        kwargs.clear()
        kwargs["initial_value"] = 0.0
        return next_creator(**kwargs)

    mine = {"initial_value": 1.0, "name": "w"}
    with tc.creator_scope(vandal):
        for _ in range(2):
            assert tc.variable(**mine).item() == 0.0
    assert mine == {"initial_value": 1.0, "name": "w"}
    assert seen[0] == seen[1]


def test_dropped_keywords_take_their_defaults():
    """A creator that passes only a value on gets a plain variable."""

    def forgetful(next_creator, **kwargs):
        return next_creator(initial_value=kwargs["initial_value"])

    with tc.creator_scope(forgetful):
        plain = tc.variable(1.0)
        made = tc.variable(
            1.0, name="w", trainable=False, constraint="non_neg", synchronization="on_read",
            aggregation="sum", tags={"a": 1},
        )  # fmt: skip
    assert made.requires_grad
    assert {**tc.spec_of(made)._asdict(), "name": ""} == {**tc.spec_of(plain)._asdict(), "name": ""}


def test_the_initial_value_may_come_from_a_creator():
    """Nothing is missing as long as somebody supplies a value before the default creator."""
    with tc.creator_scope(lambda next_creator, **kw: next_creator(**{**kw, "initial_value": 5.0})):
        assert tc.variable(name="w").item() == 5.0
