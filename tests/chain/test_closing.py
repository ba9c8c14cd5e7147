"""Scopes are opened and closed, in order and out of it."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import torchcreator as tc
from tests.chain.marks import ones
from tests.support.log import called, passing, scope
from torchcreator import _errors


def test_a_scope_reaches_what_is_called_inside_not_what_is_called_after():
    """The creators are those that are open when `variable` is called."""
    with scope("a"):
        assert called() == ["a"]
    assert called() == []


def test_a_closed_scope_may_be_opened_again():
    """The object is only a description: after closing it serves once more."""
    a = scope("a")
    for _ in range(3):
        with a:
            assert called() == ["a"]


@pytest.mark.parametrize(
    "error", [ValueError("body"), KeyboardInterrupt("body"), GeneratorExit("body")], ids=repr
)
def test_an_exception_in_the_body_closes_the_scope(error):
    """Whatever ends the block, the scope is closed, and the exception passes unchanged."""
    with scope("outer"):
        with pytest.raises(type(error), match="body") as caught, scope("inner"):
            raise error
        assert caught.value is error
        assert called() == ["outer"]


def test_a_failed_creator_leaves_no_parameter_in_the_module():
    """Where a creator raises in a constructor, the module has no half-registered parameter."""
    layer = nn.Linear(2, 2, bias=False)

    def raises(next_creator, **kwargs):
        message = "not this one"
        raise ValueError(message)

    with tc.creator_scope(raises), pytest.raises(ValueError, match="not this one"):
        layer.bias2 = nn.Parameter(torch.zeros(2))
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    layer.bias2 = nn.Parameter(torch.ones(2))
    assert layer.bias2.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("order", ["cab", "acb", "abc", "bac", "bca"])
def test_closing_out_of_order(order):
    """Each scope closed out of turn says so and is gone; the others stay until they are closed."""
    scopes = {word: scope(word) for word in "abc"}
    for opened in scopes.values():
        opened.__enter__()
    remaining = "abc"
    for word in order:
        nested = remaining.endswith(word)
        remaining = remaining.replace(word, "")
        with (
            contextlib.nullcontext()
            if nested
            else pytest.raises(_errors.ScopeError, match="without proper nesting")
        ):
            scopes[word].__exit__(None, None, None)
        assert "".join(called()) == remaining[::-1]


def test_closing_twice_is_an_error_and_changes_nothing():
    """A scope that is not open cannot be closed, and the open ones stay."""
    a = scope("a")
    with a:
        pass
    with scope("b"):
        with pytest.raises(_errors.ScopeError, match="without proper nesting"):
            a.__exit__(None, None, None)
        assert called() == ["b"]


def test_names_go_on_when_the_outermost_scope_is_closed_first():
    """Scopes that were open together give no name twice, in whatever order they close."""

    def name():
        return tc.spec_of(tc.variable(1.0, name="w")).name

    a, b = tc.creator_scope(passing), tc.creator_scope(passing)
    a.__enter__()
    b.__enter__()
    assert name() == "w"
    with pytest.raises(_errors.ScopeError, match="proper nesting"):
        a.__exit__(None, None, None)
    assert name() == "w_1"
    b.__exit__(None, None, None)


def test_values_stay_protected_when_the_outermost_scope_is_closed_first():
    """A value that a creator set sticks before and after, and no mode is left in torch."""
    a, b = tc.creator_scope(passing), tc.creator_scope(ones)
    a.__enter__()
    b.__enter__()
    assert nn.Linear(2, 2).weight.sum().item() == 4
    with pytest.raises(_errors.ScopeError, match="proper nesting"):
        a.__exit__(None, None, None)
    assert nn.Linear(2, 2).weight.sum().item() == 4
    assert len(_get_current_dispatch_mode_stack()) == 1
    b.__exit__(None, None, None)
