"""What people pass by mistake to any other public function or ready-made creator."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.properties.mistakes import CALLABLES, VALUES, mistake
from tests.properties.outcomes import NAME, check_message, state
from torchcreator import constraints, creators

# Torch warns of complex tensors, and of NumPy's read-only arrays.
pytestmark = pytest.mark.filterwarnings("ignore")


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def weight():
    return tc.variable([1.0, 2.0], name="weight_to_write", constraint="non_neg")


CALLS = {
    "creator_scope": tc.creator_scope,
    "creator_scope(modules)": lambda value: tc.creator_scope(passing, modules=value),
    "spec_of": tc.spec_of,
    "named_specs": lambda value: list(tc.named_specs(value)),
    "param_groups": tc.param_groups,
    "assign": lambda value: tc.assign(value, 1.0),
    "assign(value)": lambda value: tc.assign(weight(), value),
    "assign_add(value)": lambda value: tc.assign_add(weight(), value),
    "assign_sub(value)": lambda value: tc.assign_sub(weight(), value),
    "read_value": tc.read_value,
    "apply_constraints": tc.apply_constraints,
    "build(device)": lambda value: tc.build(nn.Linear, 2, 3, device=value),
    "build(seed)": lambda value: tc.build(nn.Linear, 2, 3, seed=value),
    "defer(device)": lambda value: tc.defer(nn.Linear, 2, 3, device=value),
    "defer(seed)": lambda value: tc.defer(nn.Linear, 2, 3, seed=value),
    "materialize": tc.materialize,
    "materialize(device)": lambda value: tc.materialize(tc.defer(nn.Linear, 2, 3), device=value),
    "constraints.get": constraints.get,
    "constraints.to_config": constraints.to_config,
    "VariableAggregation.of": tc.VariableAggregation.of,
    "VariableSynchronization.of": tc.VariableSynchronization.of,
    "sharded(placements)": lambda value: creators.sharded(None, value),
    "from_checkpoint": creators.from_checkpoint,
    "from_checkpoint(key)": lambda value: creators.from_checkpoint({"x": torch.ones(1)}, key=value),
    "record": creators.record,
}


@pytest.mark.parametrize("call", CALLS)
def test_any_argument_of_a_function(call):
    """Every other public function answers, or refuses in words of ours."""
    before = state()[0]
    for label in VALUES:
        try:
            CALLS[call](mistake(label))
        except tc.TorchCreatorError as error:
            check_message(error, "")
        assert state()[0] is before


CREATORS = {
    "on": creators.on,
    "cast": creators.cast,
    "initialize": creators.initialize,
    "constrain": creators.constrain,
    "aggregate": creators.aggregate,
    "aggregate(process_group)": lambda value: creators.aggregate("sum", process_group=value),
    "mirrored": lambda value: creators.mirrored(process_group=value),
    "optimizer": lambda value: creators.optimizer(lr=value),
    "where(creator)": lambda value: creators.where(value, name="*"),
    "where(name)": lambda value: creators.where(creators.freeze(), name=value, strict=False),
    "where(module)": lambda value: creators.where(creators.freeze(), module=value),
    "where(when)": lambda value: creators.where(creators.freeze(), when=value),
    "progress": lambda value: creators.progress(title=value),
    "forbid": lambda value: creators.forbid(reason=value),
    "declare": lambda value: creators.declare(trainable=value),
    "declare(device)": lambda value: creators.declare(device=value),
    "declare(tags)": lambda value: creators.declare(tags=value),
    "freeze(name)": lambda value: creators.freeze(name=value, strict=False),
    "freeze(strict)": lambda value: creators.freeze(name="*", strict=value),
    "creator_scope": lambda value: value,
}


@pytest.mark.parametrize("make", CREATORS)
def test_any_argument_of_a_ready_made_creator(make):
    """A ready-made creator refuses its argument, or the variable does, or a parameter comes out."""
    for label in sorted(set(VALUES) - set(CALLABLES)):
        before = state()[0]
        try:
            with tc.creator_scope(CREATORS[make](mistake(label))):
                made = tc.variable(1.0, name=NAME)
        except tc.TorchCreatorError as error:
            check_message(error, "")
        except TypeError:
            # A constraint and a class are callables too: they were called as a creator is.
            assert callable(mistake(label))
        else:
            assert isinstance(made, nn.Parameter)
        assert state()[0] is before


@pytest.fixture
def saved(tmp_path):
    torch.save({NAME: torch.ones(2)}, tmp_path / "saved.pt")
    return tmp_path / "saved.pt"


@pytest.mark.parametrize("around", ["scope", "build"])
@pytest.mark.parametrize("option", ["rename", "rename to", "strict", "copy"])
def test_any_option_of_from_checkpoint(option, around, saved):
    """The value of the file comes out, or a variable as it was, or an error and nothing half done.

    What a function or a mapping of the caller's raises passes as it is.
    """

    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = tc.variable(torch.zeros(2), name=NAME)

    for label in VALUES:
        value, before = mistake(label), state()[0]
        options = (
            {"rename": lambda name, to=value: to} if option == "rename to" else {option: value}
        )
        try:
            with tc.creator_scope(creators.from_checkpoint(saved, **options)):
                made = tc.build(Gain).gain if around == "build" else Gain().gain
        except tc.TorchCreatorError as error:
            check_message(error, "")
        except Exception:
            assert option == "rename"
            assert callable(value) or isinstance(value, Mapping)
        else:
            assert made.tolist() in ([1.0, 1.0], [0.0, 0.0])
        assert state()[0] is before
