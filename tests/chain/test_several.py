"""Several creators in one scope."""

from __future__ import annotations

import pytest
from torch import nn

import torchcreator as tc
from tests.chain.marks import ones
from tests.support.log import called, passing
from torchcreator import _errors


def adding(word, log):
    def creator(next_creator, **kwargs):
        log.append(word)
        return next_creator(**kwargs)

    return creator


@pytest.mark.parametrize("modules", [True, False], ids=["modules", "no modules"])
def test_the_first_creator_is_the_outermost(modules):
    """``creator_scope(a, b, c)`` is three with-blocks, in that order."""
    log = []
    a, b, c = (adding(word, log) for word in "abc")
    with tc.creator_scope(a, b, c, modules=modules):
        tc.variable(1.0)
        nn.Linear(1, 1, bias=False)
    several, log[:] = list(log), []
    with (
        tc.creator_scope(a, modules=modules),
        tc.creator_scope(b, modules=modules),
        tc.creator_scope(c, modules=modules),
    ):
        tc.variable(1.0)
        nn.Linear(1, 1, bias=False)
    assert several == log == [*"cba"] * (2 if modules else 1)


def test_one_block_closes_all():
    """Nothing of a scope of several creators stays, and others around it do."""
    with tc.creator_scope(passing):
        before = called()
        with tc.creator_scope(passing, ones, passing):
            assert tc.variable(0.0, shape=()).item() == 1.0
        assert called() == before
    assert tc.variable(0.0).item() == 0.0


def test_closing_out_of_turn_closes_all():
    """Every creator of a scope that is closed out of turn is gone; the one inside stays."""
    log = []
    several = tc.creator_scope(adding("a", log), adding("b", log))
    inside = tc.creator_scope(adding("c", log))
    several.__enter__()
    inside.__enter__()
    with pytest.raises(_errors.ScopeError, match="proper nesting"):
        several.__exit__(None, None, None)
    tc.variable(1.0)
    assert log == ["c"]
    inside.__exit__(None, None, None)


def test_as_a_decorator():
    """Each call of the function passes all of them."""
    log = []

    @tc.creator_scope(adding("a", log), adding("b", log))
    def make():
        return tc.variable(1.0)

    make()
    assert log == ["b", "a"]


def test_it_is_named_after_all_of_them():
    """A message shows every creator."""
    with tc.creator_scope(passing, ones) as _:
        scope = tc.creator_scope(passing, ones)
        assert repr(scope) == "creator_scope(passing, ones)"
        with scope:
            pass


@pytest.mark.parametrize("creators", [(), (passing, 5)], ids=["none", "one is a number"])
def test_what_is_no_creator_is_refused(creators):
    """No creator at all is an error, and one that cannot be called among several."""
    with pytest.raises(TypeError, match=r"creator_scope got (no creator|5)\."):
        tc.creator_scope(*creators)


def test_inspect_tells_them_apart():
    """Each creator of a scope is named by itself."""

    def frozen(next_creator, **kwargs):
        return next_creator(**{**kwargs, "trainable": False})

    def cast(next_creator, **kwargs):
        return next_creator(**{**kwargs, "dtype": None, "constraint": "non_neg"})

    with tc.creator_scope(frozen, cast):
        row = tc.inspect(nn.Linear, 1, 1)["weight"]
    assert [(d.creator.rpartition(".")[2], sorted(d.changed)) for d in row.decisions] == [
        ("cast", ["constraint"]),
        ("frozen", ["trainable"]),
    ]
