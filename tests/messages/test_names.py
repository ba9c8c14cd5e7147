"""How a message names what it is about: the variable, its module, and the machine's devices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.messages.parts import TYPE, VALUE, message_of


@pytest.mark.parametrize(
    ("kind", "name", "shown"), [(TYPE, 3, "3"), (VALUE, "", "''"), (TYPE, b"w", "b'w'")], ids=repr
)
def test_a_name_that_cannot_be_one(kind, name, shown):
    """A name that is no text, or empty, is shown as it came."""
    assert message_of(kind, lambda: tc.variable(1.0, name=name)) == (
        f"The name of a variable is {shown}.\n"
        "A name is a non-empty string; '/' and '.' in it make paths.\n"
        "Write name='encoder/gain', say, or leave it out."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")], ids=repr)
def test_cuda_where_there_is_none(device):
    """A device that this machine lacks is an error of the variable, not of some later kernel."""
    message = message_of(VALUE, lambda: tc.variable(1.0, device=device, name="encoder/gain"))
    assert message.startswith(f"The device of variable 'encoder/gain' is {device!r}.\n")
    assert message.endswith("Pass a device that this machine has, device='cpu', say.")


MANY = torch.ones(2)  # is neither true nor false


@pytest.mark.parametrize(
    "called",
    [
        lambda: tc.variable(1.0, name=MANY, frobnicate=1),
        lambda: tc.default_creator(initial_value=1.0, name=MANY, frobnicate=1),
    ],
    ids=["variable", "default_creator"],
)
def test_a_name_that_cannot_be_one_beside_another_mistake(called):
    """Whatever the name is, the message about something else shows it."""
    assert message_of(TYPE, called).startswith(
        "Variable tensor([1., 1.]) got an unexpected keyword"
    )


@pytest.mark.parametrize(
    "creator",
    [
        lambda next_creator, **kwargs: None,
        tc.creators.initialize(nn.init.zeros_),
        tc.creators.forbid(),
    ],
    ids=["returns None", "initialize", "forbid"],
)
def test_a_name_that_cannot_be_one_reaches_creators(creator):
    """Creators name it, too, or leave it to the end of the chain to refuse it."""
    with tc.creator_scope(creator), pytest.raises(tc.TorchCreatorError, match="tensor"):
        tc.variable(1.0, name=MANY)


def test_tags_that_are_neither_true_nor_false():
    """What a creator put in place of the tags is refused by the name of the module's parameter."""

    def tagged(next_creator, **kwargs):
        return next_creator(**{**kwargs, "tags": MANY})

    with tc.creator_scope(tagged):
        message = message_of(TYPE, lambda: nn.Linear(2, 3))
    assert message.startswith("The tags of variable 'Linear.weight' are")


def test_a_variable_without_a_name_is_not_given_one():
    """Where no name was given, the message says so."""
    without = "variable without a name"
    assert without in message_of(VALUE, lambda: tc.variable(torch.zeros(1), shape=(2,)))
    assert without in message_of(VALUE, lambda: tc.variable(1.0, aggregation="x"))


def test_a_modules_parameter_is_named_with_its_module():
    """An error about a stock module's parameter says which class it is of."""

    def doubles(next_creator, **kwargs):
        return next_creator(**{**kwargs, "shape": (7,)})

    with tc.creator_scope(doubles):
        message = message_of(VALUE, lambda: nn.Linear(2, 3))
    assert message == (
        "A creator gave Linear.weight another shape than its module did.\n"
        "  expected: (3, 2)\n"
        "  actual:   (7,)\n"
        "The module's forward relies on the shape it chose.\n"
        "Keep shape as it comes, or return a parameter of your own."
    )
