"""Options that variables declare become an optimizer's groups."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import freeze, optimizer, where


def vectors(**options):
    return where(optimizer(**options), when=lambda shape, **_: len(shape) < 2)


def named(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        ([names[id(p)] for p in group["params"]], {k: v for k, v in group.items() if k != "params"})
        for group in groups
    ]


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))


@pytest.mark.parametrize("make", [model, lambda: build(model)], ids=["scope", "build"])
def test_norms_and_biases_are_not_decayed_in_one_line(make):
    """The usual rule is one line, and groups and members keep the model's order."""
    with tc.creator_scope(vectors(weight_decay=0.0)):
        made = make()
    assert named(made, tc.param_groups(made, weight_decay=0.1, lr=1e-3)) == [
        (["0.weight", "2.weight"], {"weight_decay": 0.1, "lr": 1e-3}),
        (["0.bias", "1.weight", "1.bias", "2.bias"], {"weight_decay": 0.0, "lr": 1e-3}),
    ]


def test_every_parameter_is_in_one_group():
    """Tied, frozen and undeclared parameters come once."""
    with tc.creator_scope(where(freeze(), name="*.bias")):
        made = model()
    made.append(nn.Linear(3, 1))
    made[3].weight = made[2].weight
    groups = tc.param_groups(made)
    assert [p for group in groups for p in group["params"]] == list(made.parameters())


def test_an_optimizer_steps_by_the_groups():
    """Decay reaches only what is not exempt, by hand-computed numbers."""
    with tc.creator_scope(vectors(weight_decay=0.0)):
        made = nn.Linear(1, 1)
    with torch.no_grad():
        made.weight.fill_(2.0)
        made.bias.fill_(2.0)
    stepper = torch.optim.SGD(tc.param_groups(made, weight_decay=0.5), lr=0.1)
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step()
    assert made.weight.item() == pytest.approx(2.0 - 0.1 * 0.5 * 2.0)
    assert made.bias.item() == 2.0


def test_what_is_declared_nearer_to_the_variable_stays():
    """The variable's own options beat the inner creator's, and those the outer one's."""
    with (
        tc.creator_scope(optimizer(lr=1, weight_decay=1, betas=1)),
        tc.creator_scope(optimizer(lr=2, weight_decay=2)),
    ):
        gain = tc.variable([1.0], tags={"optimizer": {"lr": 3}})
    assert tc.spec_of(gain).tags["optimizer"] == {"lr": 3, "weight_decay": 2, "betas": 1}


def test_options_survive_a_copy():
    """A deep copy, and an EMA with it, has the same groups."""
    with tc.creator_scope(vectors(weight_decay=0.0)):
        made = model()
    copied = copy.deepcopy(made)
    assert named(copied, tc.param_groups(copied)) == named(made, tc.param_groups(made))


def test_options_may_be_unhashable():
    """Groups are found by equality."""
    with tc.creator_scope(optimizer(schedule=[1, 2])):
        made = nn.Linear(1, 1)
    assert len(tc.param_groups(made)) == 1


@pytest.mark.parametrize("options", [{}, {"params": []}], ids=["nothing", "params"])
def test_wrong_options_are_refused(options):
    """An optimizer without options, and one that names the parameters, are errors."""
    with pytest.raises(ValueError, match="optimizer got"):
        optimizer(**options)
