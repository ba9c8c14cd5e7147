"""Options that variables declare become an optimizer's groups."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import freeze, optimizer


def vectors(**options):
    return optimizer(**options, when=lambda shape, **_: len(shape) < 2)


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
    with tc.creator_scope(freeze(name="*.bias")):
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
    with tc.creator_scope(optimizer(betas=[0.9, 0.99])):
        made = nn.Linear(1, 1)
    assert len(tc.param_groups(made)) == 1


@pytest.mark.parametrize("options", [{}, {"params": []}], ids=["nothing", "params"])
def test_wrong_options_are_refused(options):
    """An optimizer without options, and one that names the parameters, are errors."""
    with pytest.raises(ValueError, match="optimizer got"):
        optimizer(**options)


def test_an_option_that_no_optimizer_has_is_told_where_it_is_written():
    """Torch takes any key in a group and reads those it knows, so a misspelt one does nothing."""
    with pytest.warns(UserWarning, match=r"option 'lrr' \(did you mean 'lr'\?\)") as told:
        optimizer(lrr=1)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"option 'weight_decat' \(did you mean 'weight_decay'"):
        tc.param_groups(nn.Linear(1, 1), weight_decat=0.1)


class Scaled(torch.optim.SGD):
    """An optimizer of somebody's own."""

    def __init__(self, params, lr=0.1, my_scale=1.0):
        super().__init__(params, lr)


class Open(torch.optim.SGD):
    """One that does not say which options it has."""

    def __init__(self, params, **options):
        super().__init__(params, options.get("lr", 0.1))


@pytest.mark.parametrize(
    "options",
    [{"my_scale": 2.0}, {"fused": True}, {"name": "head"}, {"initial_lr": 0.1}],
    ids=["own", "torch's", "name", "a scheduler's"],
)
def test_an_option_that_somebody_reads_is_not_told(options):
    """Options of any optimizer that there is pass, and what torch's schedulers read."""
    made = nn.Linear(1, 1)
    groups = tc.param_groups(made, **options)  # warnings are errors
    assert all(options.items() <= group.items() for group in groups)


def test_an_option_of_another_optimizer_is_an_error_when_the_class_is_known():
    """With the class that will read the groups, the error names parameter, option and class."""
    with tc.creator_scope(optimizer(momentum=0.9, name="*.bias")):
        made = nn.Sequential(nn.Linear(2, 3))
    named_all = r"(?s)AdamW has no option 'momentum'.*which '0.bias' declares.*betas"
    with pytest.raises(ValueError, match=named_all):
        tc.param_groups(made, optimizer=torch.optim.AdamW)
    with pytest.raises(ValueError, match="Scaled has no option 'eps', which param_groups"):
        tc.param_groups(nn.Linear(1, 1), optimizer=Scaled, eps=0.1)
    assert len(tc.param_groups(made, optimizer=torch.optim.SGD)) == 2
    assert len(tc.param_groups(made, optimizer=Open)) == 2


@pytest.mark.parametrize("wrong", [nn.Linear, "AdamW"], ids=["a module", "a name"])
def test_what_is_no_class_of_optimizers_is_refused(wrong):
    """The groups are made before the optimizer is, so its class is asked for."""
    with pytest.raises(TypeError, match=r"param_groups\(\) got optimizer="):
        tc.param_groups(nn.Linear(1, 1), optimizer=wrong)
