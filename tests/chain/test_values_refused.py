"""What no initial value can be is refused by the variable's name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc


def test_what_cannot_be_allocated_is_named():
    """A shape beyond all memory is an error with the variable's name, not torch's allocator's."""
    with pytest.raises(ValueError, match=r"Variable 'vast' of shape .* could not be allocated"):
        tc.variable(nn.init.zeros_, shape=(2**40, 2**10), name="vast")


def test_an_iterator_is_no_shape():
    """What is empty the second time it is looked at would be another shape then."""
    with pytest.raises(TypeError, match="The shape of variable 'w' is <generator"):
        tc.variable(nn.init.zeros_, shape=(n for n in (2, 3)), name="w")


def test_a_value_without_a_shape_is_refused():
    """A lazy parameter has no shape that a variable could have."""
    with pytest.raises(TypeError, match="The initial value of variable 'w' is a "):
        tc.variable(nn.UninitializedParameter(), name="w")


def test_a_function_that_is_not_called_so_is_told():
    """A function of other arguments is refused by the variable's name; its own errors pass."""
    with pytest.raises(TypeError, match=r"is called with one tensor: .*missing 1 required"):
        tc.variable(lambda a, b: a, shape=(2,), name="w")
    with pytest.raises(TypeError, match="initial value of variable 'w' is a callable that needs"):
        tc.variable(torch.rand, name="w")


def test_what_goes_wrong_inside_an_initialiser_passes_unchanged():
    """A TypeError from its body is its author's to read; only one of the call is explained."""

    def initialiser(tensor):
        return tensor.fill_("one")

    with pytest.raises(TypeError, match="fill_") as caught:
        tc.variable(initialiser, shape=(2,), name="gain")
    assert not isinstance(caught.value, tc.TorchCreatorError)


@pytest.mark.parametrize("shape", [None, (2, 2), ()], ids=["no shape", "matrix", "scalar"])
def test_a_constraint_is_no_value(shape):
    """It would project whatever lies in the memory; wherever it comes from, it is refused."""
    words = "initial value of variable 'gain' is a constraint: Orthogonal"

    def put(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": tc.constraints.Orthogonal()})

    with pytest.raises(TypeError, match=words):
        tc.variable(tc.constraints.Orthogonal(), shape=shape, name="gain")
    with tc.creator_scope(put), pytest.raises(TypeError, match=words):
        tc.variable(torch.nn.init.zeros_, shape=shape or (2, 2), name="gain")
    with tc.creator_scope(put), pytest.raises(TypeError, match=r"'Linear\.weight' is a constraint"):
        nn.Linear(2, 2)
