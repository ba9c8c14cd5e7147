"""A creator that calls the chain for ever is told so, and told what to write instead."""

from __future__ import annotations

import sys
import traceback

import pytest
from torch import nn

import torchcreator as tc
from torchcreator import _errors
from torchcreator._chain.open_scopes import current


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def calls_variable(next_creator, **kwargs):
    return tc.variable(**kwargs)


def builds_a_module(next_creator, **kwargs):
    nn.Linear(1, 1)
    return next_creator(**kwargs)


def helped(**kwargs):
    return tc.variable(**kwargs)


def calls_a_helper(next_creator, **kwargs):
    return helped(**kwargs)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = tc.variable(1.0)


def builds_its_own_module(next_creator, **kwargs):
    Own()
    return next_creator(**kwargs)


class Callable:
    def __call__(self, next_creator, **kwargs):
        return tc.variable(**kwargs)

    def __repr__(self):
        return "Callable()"


@pytest.mark.parametrize(
    ("creator", "called"),
    [
        (calls_variable, "calls_variable"),
        (builds_a_module, "builds_a_module"),
        (calls_a_helper, "calls_a_helper"),
        (builds_its_own_module, "builds_its_own_module"),
        (Callable(), r"Callable\(\)"),
        (Callable().__call__, r"Callable\.__call__"),
    ],
    ids=["variable", "stock module", "helper", "own module", "callable object", "bound method"],
)
@pytest.mark.parametrize(
    "make", [lambda: tc.variable(1.0), lambda: nn.Linear(1, 1)], ids=["variable", "module"]
)
def test_the_creator_that_does_not_end_is_named(creator, called, make):
    """Whatever way round the chain calls itself, it is the creator that is named."""
    message = f"^Creator {called} made variables for ever"
    recursion = pytest.raises(_errors.CreatorRecursionError, match=message)
    with recursion as caught, tc.creator_scope(passing), tc.creator_scope(creator):
        make()
    assert isinstance(caught.value, RecursionError)
    assert caught.value.__cause__ is None
    assert current.get() is None


def test_the_innermost_of_two_that_call_each_other_is_named():
    """Where several creators stand in the chain, the one that starts it anew is meant."""
    outer = tc.creator_scope(calls_variable)
    recursion = pytest.raises(_errors.CreatorRecursionError, match="Creator calls_variable ")
    with recursion, outer, tc.creator_scope(passing):
        tc.variable(1.0)


def test_the_message_names_the_variable_and_the_way_out():
    """The error says what happened, to which variable, why, and what to write."""
    with pytest.raises(_errors.CreatorRecursionError, match="for ever") as caught:  # noqa: SIM117
        with tc.creator_scope(calls_variable):
            tc.variable(1.0, name="gain")
    assert str(caught.value) == (
        "Creator calls_variable made variables for ever, the last one 'gain'.\n"
        "variable() and a module's constructor inside a creator run the whole chain again, "
        "this creator included.\n"
        "End the creator with: return next_creator(**kwargs)"
    )


def test_the_error_that_python_raised_is_not_printed_too():
    """What Python gave up at says nothing to the user, and is suppressed."""
    recursion = pytest.raises(_errors.CreatorRecursionError, match="for ever")
    with recursion as caught, tc.creator_scope(calls_variable):
        tc.variable(1.0)
    assert caught.value.__suppress_context__
    assert "maximum recursion depth" not in "".join(traceback.format_exception(caught.value))


def test_a_recursion_that_is_not_the_chains_passes_unchanged():
    """A creator's own endless recursion, in which no variable is made, keeps its error."""

    def endless():
        return endless()

    def creator(next_creator, **kwargs):
        return endless()

    with (
        tc.creator_scope(creator),
        pytest.raises(RecursionError, match="recursion depth") as caught,
    ):
        tc.variable(1.0)
    assert not isinstance(caught.value, tc.TorchCreatorError)


def test_a_bounded_recursion_works():
    """A creator that makes variables inside, and knows when to stop, is left in peace."""

    def nested(next_creator, **kwargs):
        depth = kwargs["tags"]["depth"]
        if depth:
            tc.variable(0.0, tags={"depth": depth - 1})
        return next_creator(**kwargs)

    with tc.creator_scope(nested):
        made = tc.variable(1.0, tags={"depth": 20})
        assert tc.spec_of(made).name == "Variable_20"


def test_after_the_error_everything_works():
    """The next variable in the same scope, and outside it, is made as if nothing had been."""
    limit = sys.getrecursionlimit()
    broken = True

    def creator(next_creator, **kwargs):
        return tc.variable(**kwargs) if broken else next_creator(**kwargs)

    with tc.creator_scope(creator):
        with pytest.raises(_errors.CreatorRecursionError, match="for ever"):
            tc.variable(1.0)
        broken = False
        assert tc.spec_of(tc.variable(1.0, name="w")).name == "w"
        assert len(list(tc.named_specs(nn.Linear(1, 1)))) == 2
    assert sys.getrecursionlimit() == limit
