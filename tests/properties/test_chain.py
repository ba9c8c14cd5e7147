"""Laws of the creator chain: identity, associativity, order, and no trace of what was closed."""

from __future__ import annotations

import contextlib
import functools

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchcreator as tc
from tests.properties.mistakes import BoomError
from torchcreator._chain.open_scopes import current

CHANGES = {
    "pass": lambda kwargs: {},
    "double": lambda kwargs: {"initial_value": kwargs["initial_value"] * 2},
    "add": lambda kwargs: {"initial_value": kwargs["initial_value"] + 1},
    "freeze": lambda kwargs: {"trainable": False},
    "rename": lambda kwargs: {"name": f"{kwargs['name']}x"},
    "half": lambda kwargs: {"dtype": torch.float16},
}
CREATORS = st.lists(st.sampled_from(sorted(CHANGES)), max_size=6)


def changing(word):
    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, **CHANGES[word](kwargs)})

    return creator


def made_under(creators):
    """Return what a variable is when it is made under these creators, the outermost first."""
    with contextlib.ExitStack() as stack:
        for creator in creators:
            stack.enter_context(tc.creator_scope(creator))
        p = tc.variable(3.0, name="w", module=nn.Module())
    return p.item(), p.dtype, p.requires_grad, tc.spec_of(p)


def composed(inner, outer):
    """Return one creator that does what two nested ones do."""

    def creator(next_creator, **kwargs):
        return inner(functools.partial(outer, next_creator), **kwargs)

    return creator


@given(CREATORS, st.data())
def test_the_identity_creator_changes_nothing(words, data):
    """A creator that only passes on may stand anywhere in the chain."""
    creators = [changing(word) for word in words]
    place = data.draw(st.integers(0, len(creators)))
    with_identity = [*creators[:place], changing("pass"), *creators[place:]]
    assert made_under(with_identity) == made_under(creators)


@given(CREATORS.filter(lambda words: len(words) > 1), st.data())
def test_nesting_is_associative(words, data):
    """Two neighbouring creators may be composed into one, anywhere in the chain."""
    creators = [changing(word) for word in words]
    place = data.draw(st.integers(0, len(creators) - 2))
    outer, inner = creators[place : place + 2]
    grouped = [*creators[:place], composed(inner, outer), *creators[place + 2 :]]
    assert made_under(grouped) == made_under(creators)


@given(CREATORS)
def test_creators_work_from_the_inside_out(words):
    """The keywords that reach the default creator are the changes applied innermost first."""
    kwargs = {"initial_value": 3.0, "name": "w"}
    for word in reversed(words):
        kwargs.update(CHANGES[word](kwargs))
    value, dtype, trainable, spec = made_under([changing(word) for word in words])
    assert (value, spec.name) == (kwargs["initial_value"], kwargs["name"])
    assert (dtype, trainable) == (kwargs.get("dtype", torch.float32), "freeze" not in words)


@given(CREATORS, CREATORS)
def test_what_was_opened_and_closed_leaves_no_trace(before, words):
    """Scopes that were closed, or left by an error, change nothing for later variables."""
    creators = [changing(word) for word in words]
    expected = made_under(creators)
    made_under([changing(word) for word in before])
    with contextlib.suppress(BoomError), tc.creator_scope(changing("double")):
        raise BoomError
    assert made_under(creators) == expected
    assert current.get() is None
