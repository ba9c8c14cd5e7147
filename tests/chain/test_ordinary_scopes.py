"""What people do by mistake with scopes and creators is told in words of ours."""

from __future__ import annotations

import gc
import re

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.messages.parts import TYPE, VALUE, message_of

MAKES = {
    "a variable": lambda: tc.variable(1.0, name="gain"),
    "a stock module": lambda: nn.Linear(2, 3),
    "a build": lambda: tc.build(nn.Linear, 2, 3),
}


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def without_stars(next_creator, kwargs):
    return next_creator(**kwargs)


def forgetful(next_creator, **kwargs):
    return next_creator(kwargs)


WRONG = {
    "a factory of creators": (tc.creators.freeze, r"Creator freeze .*creator_scope\(freeze\(...\)"),
    "one with an argument": (tc.creators.on, r"Creator on .*creator_scope\(on\(...\)"),
    "no stars": (without_stars, r"Creator without_stars .*def without_stars\(next_creator, \*\*kw"),
    "no stars passed on": (forgetful, r"passed something else .*Write next_creator\(\*\*kwargs\)"),
}


@pytest.mark.parametrize("around", [[], [passing]], ids=["outermost", "inner"])
@pytest.mark.parametrize(
    "make",
    MAKES.values(),
    ids=MAKES,
)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_creator_that_cannot_be_called_so_is_named(wrong, make, around):
    """Python's own message shows neither the creator nor what a scope calls."""
    creator, words = WRONG[wrong]
    with (
        tc.creator_scope(*around, creator),
        pytest.raises(tc.VariableTypeError, match=rf"(?s){words}") as caught,
    ):
        make()
    assert len([part for part in caught.value.args if part]) == 3


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_creators_own_type_error_passes(make):
    """What goes wrong inside a creator is its own, with its cause."""

    def adding(next_creator, **kwargs):
        try:
            raise KeyError("first")
        except KeyError as error:
            raise TypeError("mine") from error

    with tc.creator_scope(adding), pytest.raises(TypeError, match=r"^mine$") as caught:
        make()
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_requires_grad_is_called_trainable(make):
    """Torch's word leads to ours, from the caller and from a creator."""
    words = r"'requires_grad' \(did you mean 'trainable'\?\)"
    with pytest.raises(tc.VariableTypeError, match=words):
        tc.variable(1.0, name="gain", requires_grad=False)

    def frozen(next_creator, **kwargs):
        return next_creator(**kwargs, requires_grad=False)

    with tc.creator_scope(frozen), pytest.raises(tc.VariableTypeError, match=words):
        make()


@pytest.mark.parametrize(
    ("kind", "make", "start"),
    [
        (VALUE, tc.variable, "Variable without a name has no initial_value."),
        (VALUE, lambda: tc.variable(torch.ones(2), shape=(3,)), "The initial value of variable wi"),
        (VALUE, lambda: tc.variable(1.0, aggregation="avg"), "Invalid variable aggregation mode: "),
        (TYPE, lambda: tc.variable(1.0, nme="gain"), "Variable without a name got an unexpected"),
        (TYPE, lambda: tc.variable(1.0, trainable=3), "The trainable of variable without a name"),
        (TYPE, lambda: tc.variable(1.0, shape=3), "The shape of variable without a name is 3."),
    ],
    ids=["value", "shape of the value", "aggregation", "keyword", "trainable", "shape"],
)
def test_an_unnamed_variable_is_not_called_variable(kind, make, start):
    """A message quotes no name that nobody gave."""
    message = message_of(kind, make)
    assert message.startswith(start)
    assert "'Variable'" not in message
    assert "without a name" in message


def test_a_scope_that_nobody_entered_is_told():
    """As a coroutine that was never awaited: nothing was made inside it."""
    scope = tc.creator_scope(passing)
    with pytest.warns(RuntimeWarning, match=r"creator_scope\(passing\) was never entered"):
        scope = None
    assert scope is None


def test_a_half_made_scope_can_be_shown():
    """A debugger that looks at one in its constructor sees something, and no error."""
    assert repr(tc.creator_scope.__new__(tc.creator_scope)) == "creator_scope()"


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_scope_that_could_not_be_made_is_not_told_again(monkeypatch):
    """A misspelt keyword is Python's error; collecting what is left of the object adds none."""
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    with pytest.raises(TypeError, match="unexpected keyword argument 'module'"):
        tc.creator_scope(passing, module=True)
    gc.collect()
    assert unraisable == []


def halved(next_creator, **kwargs):
    made = next_creator(**kwargs)
    return nn.Parameter(made.detach() * 0.5)


def test_a_value_made_of_what_is_not_initialised_is_told():
    """In a plain scope a stock module's parameter holds whatever was in memory, until later."""
    words = re.compile(r"for Linear\.weight.*no value yet.*kwargs\['initial_value'\]", re.DOTALL)
    with pytest.warns(UserWarning, match=words) as told, tc.creator_scope(halved):
        nn.Linear(2, 3, bias=False)
    assert told[0].filename == __file__


def constant(next_creator, **kwargs):
    value = torch.ones(kwargs["shape"])
    return next_creator(**{**kwargs, "initial_value": value})


def doubled(next_creator, **kwargs):
    return nn.Parameter(next_creator(**kwargs).detach() * 2)


def own(next_creator, **kwargs):
    return nn.Parameter(torch.ones(kwargs["shape"]))


@pytest.mark.parametrize(
    "creators",
    [(constant,), (own,), (constant, doubled), (tc.creators.fake(),), (tc.creators.meta(),)],
    ids=["a value", "an own parameter", "computed from a value", "fake", "meta"],
)
def test_a_value_that_is_one_is_not_told(creators):
    """No word where a creator further out has set the value, or nothing was asked for."""
    seen = []

    def noted(next_creator, **kwargs):
        seen.append(next_creator(**kwargs))
        return seen[-1]

    with tc.creator_scope(*creators, noted):
        layer = nn.Linear(2, 3)  # warnings are errors
    assert [*layer.parameters()] == seen


def test_in_a_build_the_value_is_there():
    """There a creator may compute on what comes back."""
    with tc.creator_scope(halved):
        made = tc.build(nn.Linear, 2, 3, seed=0)
    assert torch.equal(made.weight, tc.build(nn.Linear, 2, 3, seed=0).weight * 0.5)
