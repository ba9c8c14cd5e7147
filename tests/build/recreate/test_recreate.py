"""What creators see of a finished model, and what they can do to it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.recreate.models import Holds, Tied, trained


def passing(change):
    """A creator that changes the keywords of every variable by ``change(kwargs)``."""

    def creator(next_creator, **kwargs):
        change(kwargs)
        return next_creator(**kwargs)

    return creator


def recreated(model, *creators):
    with tc.creator_scope(*creators):
        assert tc.recreate(model) is model
    return model


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


def test_policies_leave_the_object_alone():
    """Identity, memory, gradient and hooks stay where only policies change, and the hooks run."""
    model = trained(nn.Linear(2, 1))
    weight, grad, seen = model.weight, model.weight.grad, []
    weight.register_hook(lambda g: seen.append("hook"))
    weight.register_post_accumulate_grad_hook(lambda p: seen.append("after"))
    version = weight._version
    recreated(model, tc.creators.declare(constraint="non_neg", aggregation="sum", tags={"a": 1}))
    assert model.weight is weight
    assert weight.grad is grad
    assert weight._version == version
    model(torch.ones(1, 2)).sum().backward()
    assert seen == ["hook", "after"]


def test_an_optimizer_goes_on_and_projects():
    """An optimizer that has the parameters carries out a constraint that is declared since."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert (model.weight < 0).all()
    recreated(model, tc.creators.constrain("non_neg", name="weight"))
    optimizer.step()
    assert (model.weight == 0).all()
    assert (model.bias < 0).all()
    recreated(model, tc.creators.constrain(lambda w: w, name="weight"))
    recreated(model, tc.creators.declare(constraint=None))
    optimizer.step()
    assert (model.weight < 0).all()


def test_a_value_is_copied_into_the_memory_that_there_is():
    """The object, its memory, its gradient and what views it stay; the version tells."""
    model = trained(nn.Sequential(nn.Linear(2, 2)))
    weight = model[0].weight
    row, memory, version, grad = weight.detach()[0], weight.data_ptr(), weight._version, weight.grad
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    doubled = weight.detach() * 2

    def double(kwargs):
        value = kwargs["initial_value"]
        kwargs["initial_value"] = lambda: value() * 2

    recreated(model, passing(double))
    assert model[0].weight is weight
    assert weight.data_ptr() == memory
    assert weight._version > version
    assert weight.grad is grad
    assert torch.equal(weight, doubled)
    assert torch.equal(row, doubled[0])
    optimizer.step()
    assert torch.equal(weight, doubled - 1)


def test_a_written_value_is_noticed_by_a_graph():
    """A backward that needs the value that was overwritten says so, as after any write."""
    model = nn.Linear(2, 2, bias=False)
    inputs = torch.ones(1, 2, requires_grad=True)
    output = model(inputs).sum()
    recreated(model, tc.creators.initialize(nn.init.zeros_))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_creators_see_what_they_made():
    """What `next_creator` returns has the new value and form already, and may be written to."""

    def normalised(next_creator, **kwargs):
        made = next_creator(**{**kwargs, "initial_value": torch.tensor([3.0, 4.0])})
        assert made.tolist() == [3.0, 4.0]
        assert kwargs["initial_value"]().tolist() == [1.0, 2.0]
        with torch.no_grad():
            made.div_(made.norm())
        return made

    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([1.0, 2.0]))
    memory = model.w.data_ptr()
    recreated(model, normalised)
    assert model.w.tolist() == pytest.approx([0.6, 0.8])
    assert model.w.data_ptr() == memory


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
