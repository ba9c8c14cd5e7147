"""The identity creator changes nothing, and nesting is associative."""

from __future__ import annotations

import contextlib
import functools

import torch
from torch import nn

import torchcreator as tc
from tests.support.log import called, logging, passing, scope


def test_the_identity_creator_changes_nothing():
    """With a creator that only passes on, values, specs, state and random numbers are the same."""

    def build():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LSTM(4, 2))
        model.register_parameter("gain", tc.variable(nn.init.normal_, shape=(3,), name="gain"))
        return model, torch.rand(2)

    plain, plain_draw = build()
    with tc.creator_scope(passing):
        scoped, scoped_draw = build()
    assert torch.equal(plain_draw, scoped_draw)
    assert list(plain.state_dict()) == list(scoped.state_dict())
    for (_, p), (_, q) in zip(plain.named_parameters(), scoped.named_parameters(), strict=True):
        assert torch.equal(p, q)
        assert (p.requires_grad, p.stride(), type(p)) == (q.requires_grad, q.stride(), type(q))
    assert tc.spec_of(plain.gain) == tc.spec_of(scoped.gain)


def test_nesting_is_associative():
    """Three scopes do what one scope does with the three creators composed, in either grouping."""
    log = []

    def composed(inner, outer):
        def creator(next_creator, **kwargs):
            return inner(functools.partial(outer, next_creator), **kwargs)

        return creator

    a, b, c = (logging(log, word) for word in "abc")
    groupings = [
        [a, b, c],
        [composed(b, a), c],
        [a, composed(c, b)],
        [composed(composed(c, b), a)],
        [composed(c, composed(b, a))],
    ]
    logs = []
    for creators in groupings:
        log.clear()
        with contextlib.ExitStack() as stack:
            for creator in creators:
                stack.enter_context(tc.creator_scope(creator))
            tc.variable(1.0)
        logs.append(tuple(log))
    assert logs[0] == ("c>", "b>", "a>", "<a", "<b", "<c")
    assert set(logs) == {logs[0]}


def test_the_default_creator_is_the_end_of_every_chain():
    """`default_creator` as a creator makes what no creator at all makes."""
    with scope("outer"), tc.creator_scope(lambda _, **kwargs: tc.default_creator(**kwargs)):
        assert called(lambda: tc.variable(1.0)) == []
        assert tc.variable(1.0).item() == 1.0
