"""What a user reads of scopes and creators."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.messages.parts import TYPE, message_of
from torchcreator import _errors
from torchcreator._chain.open_scopes import current


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


@pytest.mark.parametrize(
    "creator", [5, None, "frozen", [passing]], ids=["a number", "None", "a name", "a list"]
)
def test_a_creator_that_cannot_be_called(creator):
    """A scope is refused at once, not at the first variable."""
    assert message_of(TYPE, lambda: tc.creator_scope(creator)) == (
        f"creator_scope got {creator!r}.\n"
        "It is called as creator(next_creator, **kwargs) for each variable.\n"
        "Pass a function, def creator(next_creator, **kwargs): "
        "return next_creator(**kwargs), say."
    )


def test_a_creator_that_returns_none():
    """The creator and the variable are named, and the missing line is written out."""

    def forgetful(next_creator, **kwargs):
        next_creator(**kwargs)

    forgetful.__qualname__ = "forgetful"
    expected = (
        "Creator forgetful returned None for variable {}.\n"
        "Whatever a creator returns becomes the variable.\n"
        "End it with: return next_creator(**kwargs)"
    )
    with tc.creator_scope(forgetful):
        message = message_of(_errors.CreatorResultError, lambda: tc.variable(1.0, name="w"))
        assert message == expected.format("'w'")
        message = message_of(_errors.CreatorResultError, lambda: nn.Linear(1, 1))
        assert message == expected.format("'weight'")


def test_a_creator_that_returns_no_parameter_to_a_module():
    """Torch does not check what a hook returns; the message names module and parameter."""
    with tc.creator_scope(lambda next_creator, **kwargs: torch.zeros(1)):
        message = message_of(_errors.CreatorResultError, lambda: nn.Linear(1, 1))
    assert message == (
        "A creator returned tensor([0.]) for Linear.weight.\n"
        "A module holds torch.nn.Parameter objects, and torch does not check this one.\n"
        "Return next_creator(**kwargs), or torch.nn.Parameter(...)."
    )


def test_a_scope_that_is_open_already():
    """The scope is named after its creator."""
    scope = tc.creator_scope(passing)
    with scope:
        message = message_of(_errors.ScopeError, scope.__enter__)
    assert message == (
        "creator_scope(passing) is already open.\n"
        "One scope object stands for one place in the chain.\n"
        "Make a new one: creator_scope(creator)."
    )


def test_a_scope_that_is_closed_out_of_order():
    """TensorFlow's words, the reason, and what became of the scope."""
    scope, inside = tc.creator_scope(passing), tc.creator_scope(passing)
    scope.__enter__()
    with inside:
        message = message_of(_errors.ScopeError, lambda: scope.__exit__(None, None, None))
    assert message == (
        "Exiting creator_scope(passing) without proper nesting.\n"
        "A scope that was opened inside it is still open.\n"
        "Close scopes in the reverse order of opening, best by with-blocks. "
        "This one is closed now all the same."
    )
    assert not scope.opened


def test_a_scope_that_is_closed_in_another_thread():
    """The message says that it stays open where it was opened, and it does."""
    scope = tc.creator_scope(passing)
    with scope:
        with ThreadPoolExecutor(1) as elsewhere:
            close = elsewhere.submit(scope.__exit__, None, None, None)
            message = message_of(_errors.ScopeError, close.result)
        assert scope.opened
        assert current.get().scope is scope
    assert message == (
        "Exiting creator_scope(passing) without proper nesting: it is open in another thread or "
        "task.\n"
        "Each thread and task has scopes of its own, which another one cannot close.\n"
        "Close it where it was opened, best by a with-block; it stays open there."
    )


def test_a_scope_that_was_never_opened():
    """It cannot be closed, nor twice, and says so when it is collected."""
    scope = tc.creator_scope(passing)
    with pytest.raises(_errors.ScopeError) as caught:
        scope.__exit__(None, None, None)
    assert str(caught.value) == (
        "Exiting creator_scope(passing) without proper nesting: it is not open.\n"
        "Only a scope that was entered, and not closed since, can be closed.\n"
        "Open it with a with-block, which closes it once."
    )
    del caught
    with pytest.warns(RuntimeWarning, match=r"creator_scope\(passing\) was never entered"):
        scope = None
    assert scope is None


def test_a_scope_that_was_opened_or_decorates_is_silent():
    """Only one that did nothing at all says so when it is collected."""
    scope = tc.creator_scope(passing)
    with scope:
        pass
    del scope

    @tc.creator_scope(passing)
    def make():
        pass

    with pytest.raises(TypeError, match="creator_scope got 5"):
        tc.creator_scope(5)
    gc.collect()


def test_a_scope_that_decorates_a_coroutine():
    """The message says why it would do nothing, and where the scope belongs."""

    async def build():
        pass

    message = message_of(TYPE, lambda: tc.creator_scope(passing)(build))
    assert message == (
        f"creator_scope(passing) decorates {build!r}.\n"
        "The body of a coroutine or generator runs after the call that makes it returned.\n"
        "Open the scope inside it: with creator_scope(creator): ..."
    )
