"""What a creator of a stock module's parameter makes besides it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc


def build(factory):
    return tc.build(factory)


def plain(factory):
    return factory()


WAYS = pytest.mark.parametrize("way", [plain, build], ids=["in a scope", "in a build"])


@WAYS
def test_a_creator_may_drop_the_module(way):
    """``module=`` is information: the module's own parameter is filled without it."""

    def drops(next_creator, **kwargs):
        del kwargs["module"]
        return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})

    with tc.creator_scope(drops):
        layer = way(lambda: nn.Linear(2, 3))
    assert layer.weight.tolist() == [[1.0, 1.0]] * 3
    assert tc.spec_of(layer.weight).shape == (3, 2)


@WAYS
@pytest.mark.parametrize("owner", ["same module", "no module"])
def test_a_side_variable_of_the_same_name_is_its_own(way, owner):
    """A variable of the same module and name is not taken for the one that waits."""
    sides = []

    def creator(next_creator, **kwargs):
        if kwargs["name"].endswith("side"):
            return next_creator(**kwargs)
        module = kwargs["module"] if owner == "same module" else None
        sides.append(
            tc.variable(torch.full((5,), 7.0), name=f"{kwargs['name']}", module=module)
            if not sides
            else None
        )
        return next_creator(**kwargs)

    def guarded(next_creator, **kwargs):
        if kwargs["shape"] is None:  # the side variable passes the chain too
            return next_creator(**kwargs)
        return creator(next_creator, **kwargs)

    torch.manual_seed(0)
    expected = nn.Linear(2, 3)
    torch.manual_seed(0)
    with tc.creator_scope(guarded):
        layer = way(lambda: nn.Linear(2, 3))
    assert sides[0].tolist() == [7.0] * 5
    assert torch.equal(layer.weight, expected.weight)
    assert torch.equal(layer.bias, expected.bias)


@WAYS
def test_a_variable_made_by_an_initial_value_is_its_own(way):
    """What is made while the value is computed is not the parameter that waits for it."""

    def creator(next_creator, **kwargs):
        if kwargs["shape"] is None:
            return next_creator(**kwargs)

        def value():
            return tc.variable(torch.zeros(()), name="inner").detach() + torch.ones(shape)

        shape = kwargs["shape"]
        return next_creator(**{**kwargs, "initial_value": value})

    with tc.creator_scope(creator):
        layer = way(lambda: nn.Linear(2, 1))
    assert layer.weight.tolist() == [[1.0, 1.0]]


def test_the_chain_of_a_module_may_be_called_later():
    """Nothing waits then: it makes a variable of a value, and asks for one where there is none."""
    kept = []

    def keeps(next_creator, **kwargs):
        kept.append((next_creator, kwargs))
        return next_creator(**kwargs)

    with tc.creator_scope(keeps):
        nn.Linear(2, 1, bias=False)
    ((next_creator, kwargs),) = kept
    with pytest.raises(tc.VariableValueError, match=r"Linear\.weight' has no initial_value"):
        next_creator(**kwargs)
    assert next_creator(**{**kwargs, "initial_value": torch.ones(1, 2)}).tolist() == [[1.0, 1.0]]

    def calls_the_other(_, **kwargs):
        return next_creator(**{**kwargs, "initial_value": None})

    with tc.creator_scope(calls_the_other):
        assert tc.build(nn.Linear, 2, 1, bias=False).weight.shape == (1, 2)
