"""What creators see of a finished model: names, ties, what was declared."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.recreate.models import passing, recreated, trained
from tests.build.test_creators import Tied


def test_what_they_see():
    """Each parameter once, in order, with full name, owner, form, `trainable` and value."""
    seen = []
    model = recreated(Tied(), passing(seen.append))
    named = dict(model.named_parameters())
    assert [kwargs["name"] for kwargs in seen] == list(named)
    for kwargs in seen:
        parameter = named[kwargs["name"]]
        assert kwargs["shape"] == parameter.shape
        assert kwargs["dtype"] == parameter.dtype
        assert kwargs["device"] == torch.device("cpu")
        assert kwargs["trainable"] is parameter.requires_grad
        assert kwargs["module"] is model.get_submodule(kwargs["name"].rpartition(".")[0])
        assert torch.equal(kwargs["initial_value"](), parameter)
        assert kwargs["initial_value"]().data_ptr() != parameter.data_ptr()
        assert set(kwargs) == set(tc.VariableKwargs.__annotations__)
        assert repr(kwargs["initial_value"]) == f"<value of {kwargs['name']!r}>"


def test_outside_any_scope_nothing_happens():
    """Where no creator is open, the model is what it was, and declares nothing."""
    model = Tied()
    assert tc.recreate(model) is model
    assert list(tc.named_specs(model)) == []


def test_a_passing_creator_declares_what_is_there():
    """Objects, memory, values and gradients stay; each parameter has a spec with its full name."""
    model = trained(Tied())
    before = {n: (p, p.data_ptr(), p._version, p.grad) for n, p in model.named_parameters()}
    recreated(model, lambda next_creator, **kwargs: next_creator(**kwargs))
    for name, parameter in model.named_parameters():
        old, memory, version, grad = before[name]
        assert parameter is old
        assert parameter.data_ptr() == memory
        assert parameter._version == version
        assert parameter.grad is grad
    assert [s.name for *_, s in tc.named_specs(model)] == list(before)
    assert [s.trainable for *_, s in tc.named_specs(model)] == [
        p.requires_grad for p in model.parameters()
    ]


def test_a_tie_comes_once():
    """With all its names, and it stays a tie; of a module that is shared, too."""
    tags = {}
    model = Tied()
    model.twice = model.norm
    recreated(model, passing(lambda kwargs: tags.update({kwargs["name"]: kwargs["tags"]})))
    assert model.head.weight is model.embed.weight
    assert tags == {
        "embed.weight": {"names": ("embed.weight", "head.weight")},
        "norm.weight": {"names": ("norm.weight", "twice.weight")},
        "norm.bias": {"names": ("norm.bias", "twice.bias")},
        "head.bias": None,
    }
    assert tc.spec_of(model.head.weight).tags["names"] == ("embed.weight", "head.weight")


def test_a_tie_that_was_cut_is_none_any_more():
    """Its names are told as they are now."""
    model = recreated(Tied(), tc.creators.freeze())
    model.head.weight = nn.Parameter(torch.zeros(5, 3))
    recreated(model, tc.creators.freeze())
    assert dict(tc.spec_of(model.embed.weight).tags) == {}
    assert tc.spec_of(model.head.weight).name == "head.weight"


def test_what_was_declared_comes_back():
    """A parameter that has a spec comes with the keywords of it, and keeps what nobody changes."""
    model = recreated(
        nn.Sequential(nn.Linear(2, 3)),
        tc.creators.declare(constraint="non_neg", aggregation="sum", tags={"a": 1}),
        tc.creators.declare(synchronization="on_write", caching_device="cpu", name="*.bias"),
    )
    declared = {name: spec for name, _, spec in tc.named_specs(model)}
    seen = {}
    recreated(model, passing(lambda kwargs: seen.update({kwargs["name"]: kwargs})))
    assert seen["0.weight"]["constraint"] == tc.constraints.NonNeg()
    assert seen["0.weight"]["aggregation"] is tc.VariableAggregation.SUM
    assert seen["0.weight"]["tags"] == {"a": 1}
    assert seen["0.bias"]["synchronization"] is tc.VariableSynchronization.ON_WRITE
    assert seen["0.bias"]["caching_device"] == torch.device("cpu")
    assert {name: spec for name, _, spec in tc.named_specs(model)} == declared
    recreated(model, tc.creators.freeze())
    for name, _, spec in tc.named_specs(model):
        assert spec == declared[name]._replace(trainable=False)


def test_trainable_is_what_it_is_now():
    """`requires_grad`, not what was declared before, is what creators see and the spec says."""
    model = recreated(nn.Linear(2, 3), tc.creators.freeze())
    model.bias.requires_grad_(True)
    recreated(model, tc.creators.constrain("non_neg"))
    assert [spec.trainable for *_, spec in tc.named_specs(model)] == [False, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True]


@pytest.mark.parametrize("name", ["parametrized", "weight_norm", "spectral_norm"])
def test_parametrized_weights_pass_by_the_name_they_have(name):
    """The pieces pass by the names they have, with what the whole declared; what is new holds."""
    model = recreated(nn.Sequential(nn.Linear(2, 2)), tc.creators.declare(tags={"a": 1}))
    change = {
        "parametrized": lambda m: nn.utils.parametrize.register_parametrization(
            m, "weight", nn.Identity()
        ),
        "weight_norm": nn.utils.parametrizations.weight_norm,
        "spectral_norm": nn.utils.parametrizations.spectral_norm,
    }[name]
    change(model[0])
    seen = {}
    recreated(model, passing(lambda kwargs: seen.update({kwargs["name"]: kwargs["tags"]})))
    assert list(seen) == [n for n, _ in model.named_parameters()]
    assert set(map(str, seen.values())) == {"{'a': 1}"}
    recreated(model, tc.creators.freeze(name="*.parametrizations.*"))
    specs = {n: s for n, _, s in tc.named_specs(copy.deepcopy(model))}
    assert {n for n, s in specs.items() if not s.trainable} == {n for n in seen if "par" in n}
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {
        n for n in seen if "par" in n
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_names_are_those_without_torchs_wrappings():
    """`torch.compile` adds nothing to a name."""
    seen = []
    model = torch.compile(nn.Sequential(nn.Linear(2, 2)))
    recreated(model, passing(lambda kwargs: seen.append(kwargs["name"])))
    assert seen == ["0.weight", "0.bias"]


def test_a_circle_of_modules_ends():
    """A module that has its parent passes once."""
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].parent = model
    seen = []
    recreated(model, passing(lambda kwargs: seen.append(kwargs["name"])))
    assert seen == ["0.weight", "0.bias"]


def test_recreating_again_and_again():
    """It may be done in steps; copies and pickles declare what the model does."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    recreated(model, tc.creators.freeze(name="0.*"))
    recreated(model, tc.creators.constrain("non_neg", name="1.weight"))
    twin = copy.deepcopy(model)
    assert {n: (s.trainable, s.constraint) for n, _, s in tc.named_specs(twin)} == {
        "0.weight": (False, None),
        "0.bias": (False, None),
        "1.weight": (True, tc.constraints.NonNeg()),
        "1.bias": (True, None),
    }


def test_a_lost_process_group_can_be_declared_anew():
    """The group of an unpickled model passes as it is, until a creator gives another one."""
    from torchcreator._spec.spec import LostGroup

    model = recreated(nn.Linear(2, 2), tc.creators.aggregate("sum"))
    for name, _, spec in list(tc.named_specs(model)):
        model.__dict__["_torchcreator_specs"].declared[name] = spec._replace(
            process_group=LostGroup("7")
        )
    recreated(model, tc.creators.freeze())
    assert tc.spec_of(model.weight).process_group == LostGroup("7")
    recreated(model, tc.creators.declare(process_group=None))
    assert tc.spec_of(model.weight).group() is None


def test_the_value_can_be_sliced():
    """A creator sees shape and dtype of the value, and a part of it without a copy of the rest."""
    model, parts = nn.Linear(4, 3), {}

    def look(next_creator, **kwargs):
        value = kwargs["initial_value"]
        assert value.dtype == torch.float32
        parts[kwargs["name"]] = value.shape, value[1:3]
        return next_creator(**kwargs)

    with tc.creator_scope(look):
        tc.recreate(model)
    assert parts["weight"][0] == (3, 4)
    assert torch.equal(parts["weight"][1], model.weight[1:3])
    assert parts["bias"][1].data_ptr() != model.bias.data_ptr() + 4
