"""What a creator may do with the rest of the chain."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.support.log import LOG, called, passing, scope
from torchcreator import _errors

# Calling next_creator ---------------------------------------------------------------------------


def test_next_creator_may_be_called_never():
    """A creator that answers itself keeps the creators further out from being called."""
    own = nn.Parameter(torch.zeros(2))
    with scope("outer"), tc.creator_scope(lambda next_creator, **kwargs: own):
        assert called(lambda: tc.variable(1.0)) == []


def test_next_creator_may_be_called_many_times():
    """Each call runs every creator further out, and makes a variable of its own."""
    made = []

    def thrice(next_creator, **kwargs):
        made.extend(next_creator(**{**kwargs, "initial_value": n}) for n in (1.0, 2.0, 3.0))
        return made[1]

    with scope("outer"), scope("middle"), tc.creator_scope(thrice):
        assert called(lambda: tc.variable(name="w")) == ["middle", "outer"] * 3
    assert [(p.item(), tc.spec_of(p).name) for p in made] == [(1, "w"), (2, "w_1"), (3, "w_2")]


def test_next_creator_may_be_called_after_its_scope_closed():
    """The chain is the one that was open when the variable was asked for."""
    kept = []

    def keeps(next_creator, **kwargs):
        kept.append(functools.partial(next_creator, **kwargs))
        return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(keeps):
        tc.variable(1.0)
    with scope("unrelated"):
        assert called(kept[0]) == ["outer"]


def test_a_creator_may_retry():
    """An error of a creator further out can be caught, and the chain called again."""

    def refuses_half(next_creator, **kwargs):
        if kwargs["dtype"] is torch.float16:
            message = "no half here"
            raise ValueError(message)
        return next_creator(**kwargs)

    def retries(next_creator, **kwargs):
        try:
            return next_creator(**{**kwargs, "dtype": torch.float16})
        except ValueError:
            return next_creator(**{**kwargs, "dtype": torch.bfloat16})

    with tc.creator_scope(refuses_half), tc.creator_scope(retries):
        assert tc.variable(1.0).dtype is torch.bfloat16


@pytest.mark.parametrize("result", ["hello", 0, False, [], torch.zeros(2)], ids=repr)
def test_what_a_creator_returns_is_the_variable(result):
    """Any value but None passes unchecked: fakes and wrappers are the creator's right."""
    with tc.creator_scope(passing), tc.creator_scope(lambda next_creator, **kwargs: result):
        assert tc.variable(1.0) is result


def test_an_existing_parameter_may_be_returned():
    """A shared parameter keeps its identity, name and spec, whatever was asked for now."""
    shared = tc.variable(1.0, name="shared", module=nn.Module())
    with tc.creator_scope(lambda next_creator, **kwargs: shared):
        assert tc.variable(2.0, name="other", trainable=False) is shared
    assert (tc.spec_of(shared).name, shared.requires_grad) == ("shared", True)


def test_none_is_refused_at_each_link():
    """A creator that forgets to return is named, and not the one outside it that was right."""

    def forgets(next_creator, **kwargs):
        next_creator(**kwargs)

    for outer, inner in [(forgets, passing), (passing, forgets)]:
        message = r"forgets returned None for variable 'w'"
        refused = pytest.raises(_errors.CreatorResultError, match=message)
        with tc.creator_scope(outer), tc.creator_scope(inner), refused:
            tc.variable(1.0, name="w")


# A scope inside a creator, a variable inside a creator --------------------------------------------


def test_a_scope_opened_inside_a_creator_leaves_the_chain_in_flight():
    """The chain was built before; only variables made inside that scope pass its creator."""

    def opens(next_creator, **kwargs):
        with scope("late"):
            return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(opens):
        assert called() == ["outer"]


def test_a_variable_inside_a_creator_runs_the_whole_chain():
    """The creator itself is called again too, so it must know when to stop."""

    def with_scale(next_creator, **kwargs):
        LOG.append(f"{kwargs['name']}>")
        if kwargs["name"] != "scale":
            tc.variable(1.0, name="scale")
        return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(with_scale):
        assert called(lambda: tc.variable(1.0, name="w")) == ["w", "scale", "outer", "outer"]
