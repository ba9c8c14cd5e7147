"""Scopes as decorators, and scopes that leave modules alone."""

from __future__ import annotations

import contextlib
import functools

import pytest
from torch import nn

import torchcreator as tc
from tests.chain.marks import ones
from tests.support.log import called, passing, scope
from torchcreator import _errors


def test_as_a_decorator_each_call_has_a_scope_of_its_own():
    """The scope is open during the call, recursion included, and what wraps keeps its name."""

    @scope("d")
    def depth(n: int) -> int:
        """Count down."""
        assert called() == ["d"] * (1 + 2 - n)
        return depth(n - 1) + 1 if n else 0

    assert (depth(2), depth.__name__, depth.__doc__) == (2, "depth", "Count down.")
    assert called() == []


def test_a_decorated_method_gets_its_object():
    """A decorated ``__init__`` builds its module's parameters in the scope."""

    class Model(nn.Module):
        @tc.creator_scope(ones)
        def __init__(self, size):
            super().__init__()
            self.layer = nn.Linear(size, size)

    assert Model(2).layer.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_decorator_keeps_its_choice_about_modules():
    """``modules=False`` holds for the decorated function too."""

    @scope("d", modules=False)
    def make():
        return called(lambda: nn.Linear(1, 1)) + called()

    assert make() == ["d"]


async def coroutine():
    pass


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize(
    "function",
    [coroutine, generator, async_generator, functools.partial(coroutine)],
    ids=["coroutine", "generator", "async generator", "partial of a coroutine"],
)
def test_what_runs_later_cannot_be_decorated(function):
    """The scope would be closed before the body runs, so it is refused, not ignored."""
    with pytest.raises(_errors.VariableTypeError, match="Open the scope inside it"):
        tc.creator_scope(passing)(function)


# modules=False ------------------------------------------------------------------------------------


def test_a_scope_may_leave_stock_modules_alone():
    """``modules=False`` sees what `variable` makes, and nothing that a stock module makes."""
    with scope("a", modules=False):
        assert called(lambda: nn.Linear(1, 1)) == []
        assert called() == ["a"]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [((0, 1, 1), "cb"), ((1, 0, 1), "ca"), ((1, 1, 0), "ba"), ((0, 0, 1), "c"), ((1, 0, 0), "a")],
    ids=str,
)
def test_scopes_with_and_without_modules_mix(modules, expected):
    """Each scope decides for itself whether it sees stock modules; the order stays."""
    with contextlib.ExitStack() as stack:
        for word, wanted in zip("abc", modules, strict=True):
            stack.enter_context(scope(word, modules=bool(wanted)))
        assert "".join(called(lambda: nn.Linear(1, 1, bias=False))) == expected
        assert "".join(called()) == "cba"
