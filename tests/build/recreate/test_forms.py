"""Other dtypes, devices and parameters are everywhere in the model; kinds that are special."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.recreate.models import Holds, passing, recreated, trained


def test_another_dtype_is_everywhere():
    """All who have the parameter see it in the new dtype, with its gradient and its hooks."""
    model = trained(Holds())
    seen = []
    model.layer.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.dtype))
    value = model.layer.weight.detach().clone()
    recreated(model, tc.creators.cast(torch.bfloat16))
    places, weight = model.places()
    assert weight.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.bfloat16
    assert torch.equal(weight, value.bfloat16())
    assert {place for place, held in places.items() if held is not weight} == set()
    assert tc.spec_of(weight).dtype == torch.bfloat16
    model.layer(torch.ones(1, 2, dtype=torch.bfloat16)).sum().backward()
    assert seen == [torch.bfloat16]


def test_another_device_is_everywhere():
    """On meta, say; and back, with values."""
    model = Holds()
    recreated(model, tc.creators.on("meta"))
    places, weight = model.places()
    assert weight.is_meta
    assert {place for place, held in places.items() if held is not weight} == set()
    recreated(model, tc.creators.on("cpu"), tc.creators.initialize(nn.init.ones_))
    assert model.layer.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert {place for place, held in places.items() if held is not weight} == set()


def test_a_creators_own_parameter_is_everywhere():
    """It takes the old one's place wherever the model has that, and nowhere else."""
    model = Holds()
    old, mine = model.layer.weight, nn.Parameter(torch.zeros(2, 2))
    elsewhere = [old]
    recreated(model, lambda next_creator, **kw: mine if "weight" in kw["name"] else old)
    places, weight = model.places()
    assert weight is mine
    assert {place for place, held in places.items() if held is not mine} == set()
    assert elsewhere[0] is old
    assert model.layer.bias is old
    assert old.dtype == torch.float32


def test_a_flat_weight_of_a_recurrent_module_follows():
    """Its list of weights has the new one, and the forward uses it."""
    model = nn.LSTM(2, 3)
    mine = nn.Parameter(torch.zeros(12, 2))
    chosen = tc.creators.where(lambda next_creator, **kw: mine, name="weight_ih_l0")
    recreated(model, chosen)
    assert model._flat_weights[0] is mine
    model(torch.ones(1, 1, 2))[0].sum().backward()
    assert mine.grad is not None


def test_another_shape_by_a_parameter_of_ones_own():
    """A creator may return a parameter of another shape, as in a build."""
    model = nn.Linear(2, 2)
    mine = tc.variable(torch.zeros(5, 2), name="longer")
    recreated(model, tc.creators.where(lambda next_creator, **kw: mine, name="weight"))
    assert model.weight is mine
    assert tc.spec_of(model.weight).name == "longer"


def test_what_it_replaces_declares_nothing_for_it():
    """A parameter that no creator of ours made has no spec of the one before it."""
    model = recreated(nn.Linear(2, 2), tc.creators.constrain("non_neg"))
    mine = nn.Parameter(torch.zeros(2, 2))
    recreated(model, tc.creators.where(lambda next_creator, **kw: mine, name="weight"))
    assert tc.spec_of(model.weight) is None
    assert tc.spec_of(model.bias).constraint == tc.constraints.NonNeg()


def test_one_parameter_for_two_makes_a_tie():
    """`share`, and a creator that returns another one of the model's."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    with tc.creator_scope(tc.creators.share()):
        tc.recreate(first)
        tc.recreate(second)
    assert first.weight is second.weight
    assert first.bias is second.bias


def test_lazy_parameters_pass_once():
    """Without shape and value; their first forward asks nobody."""
    seen = []
    model = nn.Sequential(nn.LazyLinear(3))
    recreated(model, passing(seen.append), tc.creators.cast(torch.float64))
    assert [kwargs["name"] for kwargs in seen] == ["0.weight", "0.bias"]
    assert {kwargs["shape"] for kwargs in seen} == {None}
    assert {kwargs["initial_value"] for kwargs in seen} == {None}
    with tc.creator_scope(passing(seen.append)):
        model(torch.ones(1, 2, dtype=torch.float64))
    assert len(seen) == 2
    assert model[0].weight.dtype == torch.float64
    assert model[0].weight.shape == (3, 2)


def test_buffers_are_left():
    """A buffer has no creator, and stays what it is."""
    model = nn.BatchNorm1d(2)
    mean = model.running_mean
    recreated(model, tc.creators.cast(torch.bfloat16))
    assert model.running_mean is mean
    assert mean.dtype == torch.float32


def test_inference_tensors_stay_inference_tensors():
    """A model that was made in inference mode takes values, and so does one inside of it."""
    with torch.inference_mode():
        frozen = nn.Linear(2, 2)
    recreated(frozen, tc.creators.initialize(nn.init.ones_))
    assert frozen.weight.is_inference()
    assert frozen.bias.tolist() == [1.0, 1.0]
    model = nn.Linear(2, 2)
    with torch.inference_mode():
        recreated(model, tc.creators.initialize(nn.init.ones_))
    assert not model.weight.is_inference()
    model(torch.ones(1, 2)).sum().backward()


def test_a_creator_may_answer_with_what_is_there():
    """One that returns the parameter itself leaves it, with what it declares, to nobody."""
    model = recreated(nn.Linear(2, 2), tc.creators.constrain("non_neg"))
    before = tc.spec_of(model.weight)

    def untouched(next_creator, **kwargs):
        return kwargs["module"].get_parameter(kwargs["name"])

    recreated(model, tc.creators.freeze(), untouched)
    assert tc.spec_of(model.weight) == before
    assert model.weight.requires_grad


@pytest.mark.parametrize(
    "how", [tc.build, lambda f: tc.materialize(tc.defer(f))], ids=["build", "defer"]
)
@pytest.mark.parametrize("what", ["freeze", "cast", "initialize", "double", "own"])
def test_a_constructor_may_recreate(how, what):
    """A factory that recreates what it makes builds, and is deferred, as it constructs."""

    def double(next_creator, **kwargs):
        value = kwargs["initial_value"]
        return next_creator(**{**kwargs, "initial_value": lambda: value() * 2})

    creator = {
        "freeze": tc.creators.freeze(name="0.*"),
        "cast": tc.creators.cast(torch.float64),
        "initialize": tc.creators.initialize(nn.init.ones_),
        "double": double,
        "own": lambda next_creator, **kwargs: nn.Parameter(torch.zeros(kwargs["shape"])),
    }[what]

    def factory():
        return recreated(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), creator)

    torch.manual_seed(0)
    plain = factory()
    torch.manual_seed(0)
    for made, parameter in zip(how(factory).parameters(), plain.parameters(), strict=True):
        assert torch.equal(made, parameter)
        assert made.dtype == parameter.dtype
        assert made.requires_grad is parameter.requires_grad
