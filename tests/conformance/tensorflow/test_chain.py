"""TensorFlow's creator chain: who is called, with what, and what may come back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.conformance.tensorflow.log import AGG, SYNC, seen_by_a_creator, spec
from tests.support.log import LOG, called, logging, passing, scope


def test_chain_01_order():
    """The innermost scope is called first, its next_creator is the next scope outward."""
    log = []
    with (
        tc.creator_scope(logging(log, "outer")),
        tc.creator_scope(logging(log, "mid")),
        tc.creator_scope(logging(log, "inner")),
    ):
        tc.variable(1.0)
    assert log == ["inner>", "mid>", "outer>", "<outer", "<mid", "<inner"]


def test_chain_02_last_word():
    """The outermost has the last word on the keywords, the innermost on the returned object."""
    names, other = [], nn.Parameter(torch.zeros(1))

    def forces(name, result=None):
        def creator(next_creator, **kwargs):
            names.append(kwargs["name"])
            made = next_creator(**{**kwargs, "name": name})
            assert tc.spec_of(made).name == "outer"
            return result if result is not None else made

        return creator

    with tc.creator_scope(forces("outer")), tc.creator_scope(forces("inner", other)):
        assert tc.variable(1.0, name="raw") is other
    assert names == ["raw", "inner"]


def test_chain_04_value_of_with():
    """The value of ``with ... as x`` is None."""
    with tc.creator_scope(passing) as x:
        assert x is None


def test_chain_05_decorator():
    """A scope is usable as a decorator and applies on every call."""

    @scope("d")
    def make():
        return tc.variable(1.0)

    assert called(make) == ["d"] == called(make)


def test_chain_06_reentering():
    """Differs: an open scope refuses to be entered again by name, not with an AttributeError."""
    opened = scope("a")
    with opened:
        with pytest.raises(RuntimeError, match="already open"):
            opened.__enter__()
        assert called() == ["a"]
    assert called() == []


def test_chain_07_same_creator_twice():
    """The same creator in two nested scopes is called twice."""
    creator = logging(LOG, "c")
    with tc.creator_scope(creator), tc.creator_scope(creator):
        assert called() == ["c", "c"]


@pytest.mark.parametrize("creator", [5, None], ids=repr)
def test_chain_08_not_callable(creator):
    """Differs: a creator that is not callable is refused when the scope is made, not when used."""
    with pytest.raises(TypeError, match="creator_scope got"):
        tc.creator_scope(creator)


def test_chain_09_creator_without_kwargs():
    """A creator that lacks ``**kwargs`` gets Python's own TypeError."""
    with (
        tc.creator_scope(lambda next_creator: None),
        pytest.raises(TypeError, match="unexpected keyword argument 'initial_value'"),
    ):
        tc.variable(1.0)


def test_chain_10_positional_arguments():
    """``next_creator(1.0)`` is a TypeError: keywords only."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: next_creator(1.0)),
        pytest.raises(TypeError, match="takes 0 positional arguments but 1 was given"),
    ):
        tc.variable(1.0)


def test_chain_11_keywords_seen():
    """Differs in the set: all keys are always there with raw values, ours instead of graph mode's.

    The ten that both have carry TensorFlow's defaults.
    """
    seen = seen_by_a_creator(3.0)
    theirs = {
        "initial_value": 3.0,
        "trainable": None,
        "validate_shape": True,
        "caching_device": None,
        "name": None,
        "dtype": None,
        "constraint": None,
        "synchronization": SYNC.AUTO,
        "aggregation": AGG.NONE,
        "shape": None,
    }
    ours = dict.fromkeys(("device", "process_group", "tags", "module"))
    assert seen == theirs | ours


def test_chain_13_unknown_keyword_of_the_user():
    """Differs: an unknown keyword is an error with the nearest one, not ignored; tags carry more.

    TensorFlow passes it to the creators and its factory drops it, so a misspelt one has no effect.
    """
    with pytest.raises(TypeError, match=r"'trainabel' \(did you mean 'trainable'\?\)"):
        tc.variable(1.0, trainabel=False)
    assert seen_by_a_creator(1.0, tags={"frobnicate": 3})["tags"]["frobnicate"] == 3


def test_chain_14_unknown_keyword_of_a_creator():
    """Differs: a keyword added by a creator is an error too; creators talk through tags."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs, colocate_with=1)),
        pytest.raises(TypeError, match="unexpected keyword 'colocate_with'"),
    ):
        tc.variable(1.0)

    def tags(next_creator, **kwargs):
        return next_creator(**{**kwargs, "tags": {"colocate_with": 1}})

    with tc.creator_scope(tags):
        assert spec(1.0).tags == {"colocate_with": 1}


def test_chain_15_dropped_keywords():
    """A creator may drop keywords: name, trainable and policies take the factory's defaults."""

    def drops(next_creator, **kwargs):
        return next_creator(initial_value=kwargs["initial_value"])

    with tc.creator_scope(drops):
        found = spec(1.0, name="w", trainable=False, constraint=abs, aggregation="sum", tags={1: 2})
    assert (found.name, found.trainable, found.constraint) == ("Variable", True, None)
    assert not found.tags
    assert (found.synchronization, found.aggregation) == (SYNC.AUTO, AGG.NONE)


def test_chain_16_none_before_the_creators():
    """Differs for aggregation: None is passed through, as it is for the others in both."""
    seen = seen_by_a_creator(1.0, aggregation=None, synchronization=None, trainable=None)
    assert seen["aggregation"] is None
    assert seen["synchronization"] is None
    assert seen["trainable"] is None


def test_chain_17_mutation():
    """Mutating the keywords inside a creator never leaks to the caller's dict, or a next call."""
    mine, seen = {"initial_value": 1.0, "name": "w"}, []

    def mutates(next_creator, **kwargs):
        seen.append(dict(kwargs))
        kwargs.clear()
        return next_creator(initial_value=2.0)

    with tc.creator_scope(mutates):
        for _ in range(2):
            assert tc.variable(**mine).item() == 2.0
    assert mine == {"initial_value": 1.0, "name": "w"}
    assert seen[0] == seen[1]


@pytest.mark.parametrize("result", ["hello", 0, torch.zeros(1), [1]], ids=repr)
def test_chain_18_returns_a_non_variable(result):
    """What a creator returns is returned as it is, without a check."""
    with tc.creator_scope(lambda next_creator, **kwargs: result):
        assert tc.variable(1.0) is result


def test_chain_18_returns_a_non_variable_to_a_stock_module():
    """Differs where a module registers it: torch can register nothing but a parameter."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: "hello"),
        pytest.raises(TypeError, match=r"returned 'hello' for Linear\.weight"),
    ):
        nn.Linear(1, 1)


def test_chain_19_returns_none():
    """Differs: None is a TypeError that names the creator, not an empty NotImplementedError.

    It is the one that forgot to return, and not the one outside or inside it that was right.
    """

    def forgets(next_creator, **kwargs):
        next_creator(**kwargs)

    says = r"forgets returned None for variable 'w'(?s:.*)return next_creator\(\*\*kwargs\)"
    for outer, inner in [(forgets, passing), (passing, forgets)]:
        refused = pytest.raises(TypeError, match=says)
        with tc.creator_scope(outer), tc.creator_scope(inner), refused:
            tc.variable(1.0, name="w")
