"""TensorFlow's creator chain while it runs: retries, exceptions, exits out of order."""

from __future__ import annotations

import contextvars
import copy
import pickle

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.support.log import LOG, called, scope
from torchcreator._chain.open_scopes import current


def test_chain_20_returns_an_existing_variable():
    """An existing variable is returned itself, with its own name; the arguments are ignored."""
    existing = tc.variable(1.0, name="existing", trainable=False, module=nn.Module())
    with tc.creator_scope(lambda next_creator, **kwargs: existing):
        found = tc.variable(2.0, name="new", trainable=True)
    assert found is existing
    assert (tc.spec_of(found).name, found.requires_grad, found.item()) == ("existing", False, 1.0)


def test_chain_21_next_creator_several_times():
    """Each call of next_creator runs all creators further out and makes a variable."""
    made = []

    def several(next_creator, **kwargs):
        made.extend(next_creator(**{**kwargs, "initial_value": n}) for n in (1.0, 2.0, 3.0))
        return made[1]

    with scope("outer"), scope("middle"), tc.creator_scope(several):
        assert called(lambda: tc.variable(name="w")) == ["middle", "outer"] * 3
    assert [(p.item(), tc.spec_of(p).name) for p in made] == [(1, "w"), (2, "w_1"), (3, "w_2")]


def test_chain_22_next_creator_zero_times():
    """Where next_creator is not called, the outer creators never are."""
    with scope("outer"), tc.creator_scope(lambda next_creator, **kwargs: nn.Parameter()):
        assert called() == []


def test_chain_23_next_creator_later():
    """next_creator works after the scope exited: the chain is captured at call time."""
    kept = []
    with scope("outer"), tc.creator_scope(lambda nxt, **kwargs: kept.append((nxt, kwargs)) or 1):
        tc.variable(5.0)
    ((next_creator, kwargs),) = kept
    with scope("unrelated"):
        assert called(lambda: next_creator(**kwargs)) == ["outer"]
    assert next_creator(**kwargs).item() == 5.0


def test_chain_24_retry():
    """A creator may catch an exception of next_creator and retry with other keywords."""

    def retries(next_creator, **kwargs):
        try:
            return next_creator(**kwargs)
        except ValueError:
            return next_creator(**{**kwargs, "shape": None})

    with tc.creator_scope(retries):
        assert tc.variable([1.0, 2.0], shape=(3,)).tolist() == [1.0, 2.0]


def test_chain_25_variable_inside_a_creator():
    """Differs in the error: the full chain runs again, and without end it is explained."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: tc.variable(**kwargs)),
        pytest.raises(RecursionError, match=r"made variables for ever(?s:.*)next_creator"),
    ):
        tc.variable(1.0)

    def bounded(next_creator, **kwargs):
        LOG.append("inner>")
        if kwargs["name"] != "aux":
            tc.variable(0.0, name="aux")
        return next_creator(**kwargs)

    with scope("outer"), tc.creator_scope(bounded):
        assert called() == ["inner", "inner", "outer", "outer"]


def test_chain_26_scope_inside_a_creator():
    """A scope opened inside a creator affects only variables made inside it, not the chain."""

    def opens(next_creator, **kwargs):
        with scope("late"):
            if kwargs["name"] == "asks":
                tc.variable(0.0, name="aux")
            return next_creator(**kwargs)

    with tc.creator_scope(opens):
        assert called() == []
        assert called(lambda: tc.variable(1.0, name="asks")) == ["late"]


def test_chain_27_bypasses():
    """Copies never call creators: deepcopy, pickle, and the class called directly."""
    v = tc.variable(1.0)
    with scope("a"):
        assert called(lambda: copy.deepcopy(v)) == []
        assert called(lambda: pickle.loads(pickle.dumps(v))) == []
        assert called(lambda: nn.Parameter(torch.zeros(1))) == []


def test_chain_28_callable_initial_value():
    """A callable stays lazy, is called once by the factory after every creator, may be wrapped."""
    log = []

    def wraps(next_creator, **kwargs):
        value = kwargs["initial_value"]
        log.append("creator")
        return next_creator(**{**kwargs, "initial_value": lambda: value() * 2})

    with tc.creator_scope(wraps):
        assert tc.variable(lambda: log.append("value") or 3.0).item() == 6.0
    assert log == ["creator", "value"]


def test_chain_29_exception_of_a_creator():
    """An exception propagates unchanged through inner creators and out of the with."""
    raised, caught = ValueError("outer"), []

    def raises(next_creator, **kwargs):
        raise raised

    def catches(next_creator, **kwargs):
        try:
            return next_creator(**kwargs)
        except ValueError as error:
            caught.append(error)
            raise

    with (
        pytest.raises(ValueError, match="outer") as out,
        tc.creator_scope(raises),
        tc.creator_scope(catches),
    ):
        tc.variable(1.0)
    assert out.value is raised is caught[0]
    assert called() == []


def test_chain_30_exception_in_the_body():
    """An exception in the body restores the stack, to the very same link."""
    with scope("outer"):
        before = current.get()
        with pytest.raises(KeyError, match="body"), scope("inner"):
            raise KeyError("body")
        assert current.get() is before


def test_chain_31_out_of_order_exit():
    """Differs: the error is TensorFlow's, but the scope closed out of order is gone all the same.

    There it stays active for ever, and closing it again is silent; here it is an error again.
    """
    a, b = scope("a"), scope("b")
    a.__enter__()
    b.__enter__()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="without proper nesting"):
            a.__exit__(None, None, None)
        assert called() == ["b"]
    b.__exit__(None, None, None)
    assert called() == []


def test_chain_32_misnesting_during_an_exception():
    """The error about nesting replaces the one in flight, which is kept as its context."""
    b = scope("b")
    original = KeyError("body")
    with pytest.raises(RuntimeError, match="proper nesting") as caught, scope("a"):  # noqa: PT012
        b.__enter__()
        raise original
    assert caught.value.__context__ is original
    b.__exit__(None, None, None)


def test_chain_33_dropping_an_entered_scope():
    """Differs: an entered scope stays open until it is closed, whoever still refers to it.

    In TensorFlow it is a generator's frame, which CPython closes with its last reference.
    """
    scope("a").__enter__()
    assert called() == ["a"]
    current.get().scope.__exit__(None, None, None)
    assert called() == []


def test_chain_34_suspended_generator():
    """Differs in reach: a suspended generator holds its scope open in its context, not the thread.

    It ends when the generator is closed, in both.
    """

    def suspends():
        with scope("g"):
            yield

    generator = suspends()
    next(generator)
    assert called() == ["g"]
    assert contextvars.Context().run(called) == []
    generator.close()
    assert called() == []
