"""Parameters that exist already are not made again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import torchcreator as tc
from tests.modules.creators import changed, constant


def test_a_tied_parameter_is_made_once(ledger):
    """Assigning another module's parameter makes nothing, and its spec is found by both."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Embedding(4, 3)
            self.decoder = nn.Linear(3, 4, bias=False)
            self.decoder.weight = self.encoder.weight

    with tc.creator_scope(ledger), tc.creator_scope(changed(constraint="non_neg")):
        model = Tied()
    assert ledger.names == ["Embedding.weight", "Linear.weight"]
    assert model.decoder.weight is model.encoder.weight
    assert [name for name, _, _ in tc.named_specs(model)] == ["encoder.weight"]
    assert [name for name, _, _ in tc.named_specs(model.decoder)] == ["weight"]


def test_parameters_from_before_the_scope_are_left():
    """A module made before the scope, and parameters taken from it, are not made again."""
    before = nn.Linear(2, 2)
    weight, value = before.weight, before.weight.detach().clone()
    with tc.creator_scope(constant(9.0)):
        model = nn.Sequential(before, nn.Linear(2, 2))
        model[1].weight = before.weight
        moved = nn.ParameterList(before.parameters())
    assert before.weight is weight
    assert model[1].weight is weight
    assert moved[0] is weight
    assert torch.equal(weight, value)
    assert (model[1].bias == 9.0).all()


def test_a_free_parameter_from_before_the_scope_is_made():
    """A parameter that no module held before is first registered inside the scope."""
    free = nn.Parameter(torch.ones(2))
    module = nn.Module()
    with tc.creator_scope(changed(trainable=False)):
        module.w = free
    assert module.w is free
    assert not free.requires_grad


@pytest.mark.parametrize("walked", [False, True], ids=["before-the-walk", "after-the-walk"])
def test_registering_again_makes_nothing(ledger, walked):
    """A module that registers its own parameter once more, or under a second name, makes none."""
    with tc.creator_scope(ledger):
        if walked:
            nn.LSTM(1, 1)
            ledger.calls.clear()
        layer = nn.Linear(2, 3, bias=False)
        layer.weight = layer.weight
        layer.register_parameter("alias", layer.weight)
        layer.register_parameter("weight", layer.weight)
    assert ledger.names == ["Linear.weight"]
    assert layer.alias is layer.weight


def test_a_deep_copys_parameter_is_not_made(ledger):
    """Copies never pass creators, also where their parameter is then assigned elsewhere."""
    with tc.creator_scope(ledger):
        nn.LSTM(1, 1)  # the one walk over live modules happens here
        first = nn.Linear(2, 2)
        copied = copy.deepcopy(first)
        ledger.calls.clear()
        first.weight = copied.weight
    assert ledger.names == []
    assert first.weight is copied.weight


def test_a_variable_in_a_constructor_is_made_once(ledger):
    """A parameter that `variable` made is not made again when its module registers it."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = tc.variable([1.0], name="gain")

    with tc.creator_scope(ledger):
        module = Scale()
    assert [call["name"] for call in ledger.calls] == ["gain"]
    assert tc.spec_of(module.gain).name == "gain"


def test_loading_by_assignment_makes_nothing(ledger):
    """``load_state_dict(assign=True)`` in a scope brings parameters, and the specs stay."""
    with tc.creator_scope(changed(constraint="non_neg")):
        model = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2), nn.BatchNorm1d(2))
    state = {name: torch.full_like(value, 3) for name, value in model.state_dict().items()}
    before = dict(model.named_parameters())
    with tc.creator_scope(ledger), tc.creator_scope(constant(1.0)):
        model.load_state_dict(state, assign=True)
    assert ledger.names == []
    assert all((p == 3.0).all() for p in model.parameters())
    assert not any(p is before[name] for name, p in model.named_parameters())
    assert len(list(tc.named_specs(model))) == len(before)


def test_pruning_makes_nothing(ledger):
    """What torch.nn.utils registers in a finished module is what the module holds already."""
    layer = nn.Linear(2, 3)
    value = layer.weight.detach().clone()
    with tc.creator_scope(ledger), tc.creator_scope(constant(0.0)):
        prune.l1_unstructured(layer, "weight", amount=0)
        prune.remove(layer, "weight")
    assert ledger.names == []
    assert torch.equal(layer.weight, value)
