"""`inspect` tells what a model's variables are, and leaves model and machine as they were."""

from __future__ import annotations

import pickle
import resource

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard

import torchcreator as tc
from tests.report.models import Llama, Scoped, Tied, answering, frozen, passing
from tests.support.ranks import run_ranks
from torchcreator._chain import observers
from torchcreator._torch.fakes import fake_mode


def told(inventory, column):
    return {row.name: getattr(row, column) for row in inventory}


def made():
    return tc.inspect(Scoped())


def foreseen():
    return tc.inspect(Scoped)


@pytest.mark.parametrize("inspected", [made, foreseen], ids=["model", "factory"])
def test_each_column_tells_what_the_variable_is(inspected):
    """A model and its factory give the same rows: names, forms, policies, owners."""
    inventory = inspected()
    assert [row.name for row in inventory] == [n for n, _ in Scoped().named_parameters()]
    row = inventory["second.weight"]
    assert (row.shape, row.dtype, row.device) == (
        torch.Size([3, 3]),
        torch.float32,
        torch.device("cpu"),
    )
    assert (row.elements, row.nbytes, row.local_nbytes) == (9, 36, 36)
    assert (row.trainable, row.declared, row.ties, row.placements) == (False, True, (), None)
    assert (row.module, row.module_type) == ("second", "Linear")
    assert row.constraint == tc.constraints.MaxNorm(1.0)
    gain = inventory["gain"]
    assert (gain.module, gain.module_type) == ("", "Scoped")
    assert gain.aggregation is tc.VariableAggregation.SUM
    assert gain.synchronization is tc.VariableSynchronization.AUTO
    assert gain.tags == {"decay": False}


def test_what_nobody_declared_is_listed_with_the_defaults():
    """A plain model's parameters are rows too: their policies are the defaults."""
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    inventory = tc.inspect(model)
    assert told(inventory, "trainable") == {"weight": True, "bias": False}
    assert set(told(inventory, "declared").values()) == {False}
    assert inventory["bias"].constraint is None


def test_a_tied_parameter_is_one_row():
    """Its other names are its ties, and its bytes count once."""
    for inventory in (tc.inspect(Tied), tc.inspect(Tied())):
        assert [row.name for row in inventory] == ["embedding.weight", "head.bias"]
        assert inventory["embedding.weight"].ties == ("head.weight",)
        assert inventory["head.weight"] is inventory["embedding.weight"]
        assert inventory.nbytes == (40 + 10) * 4


def test_a_module_with_two_names_ties_what_it_holds():
    """A module that is held twice gives its parameters two names."""
    layer = nn.Linear(2, 2)
    inventory = tc.inspect(nn.Sequential(layer, layer))
    assert told(inventory, "ties") == {"0.weight": ("1.weight",), "0.bias": ("1.bias",)}


def test_creators_see_all_names_of_a_module_with_two():
    """What they decide by a second name is foreseen, as a build would do it."""

    def factory():
        layer = nn.Linear(2, 2)
        return nn.Sequential(layer, layer)

    with tc.creator_scope(tc.creators.freeze(name="1.*")):
        inventory, model = tc.inspect(factory), tc.build(factory)
    assert not any(p.requires_grad for p in model.parameters())
    assert set(told(inventory, "trainable").values()) == {False}


def test_a_creator_that_ties_makes_one_row():
    """What creators return twice is one variable, with the names of both."""
    one = nn.Parameter(torch.zeros(2))

    def same(next_creator, **kwargs):
        return one

    with tc.creator_scope(same):
        inventory = tc.inspect(nn.LayerNorm, 2)
    assert [(row.name, row.ties) for row in inventory] == [("weight", ("bias",))]


def test_parameters_without_a_shape():
    """A lazy module's parameters have no shape and no bytes yet."""
    for given in (nn.LazyLinear(3), lambda: nn.LazyLinear(3)):
        row = tc.inspect(given)["weight"]
        assert (row.shape, row.elements, row.nbytes, row.local_nbytes) == (None, 0, 0, 0)
        assert row.dtype == torch.float32
    with tc.creator_scope(tc.creators.cast(torch.float16)):
        row = tc.inspect(nn.LazyLinear, 3)["weight"]
    assert (row.shape, row.dtype) == (None, torch.float16)


def test_a_model_without_parameters():
    """It has no rows, and its totals are zero."""
    inventory = tc.inspect(nn.ReLU())
    assert len(inventory) == inventory.nbytes == inventory.elements == 0
    assert inventory.totals()["variables"] == 0
    assert str(inventory).startswith("name")


def test_meta_fake_and_deferred_models_tell_where_they_are():
    """Meta is where it is; a fake tensor is where it says; a deferred one where it will be."""
    with torch.device("meta"):
        assert tc.inspect(nn.Linear(2, 3))["weight"].device.type == "meta"
    with tc.creator_scope(tc.creators.fake()):
        faked = nn.Linear(2, 3, device="cpu")
        assert tc.inspect(nn.Linear, 2, 3)["weight"].device.type == "cpu"
    assert tc.inspect(faked)["weight"].device.type == "cpu"
    model = tc.defer(nn.Linear, 2, 3)
    assert tc.inspect(model)["weight"].device.type == "cpu"
    assert tc.inspect(nn.Linear, 2, 3, device="meta")["weight"].device.type == "meta"
    assert model.weight.is_meta
    tc.materialize(model)


def test_where_creators_put_it_is_where_it_will_be():
    """A device that this machine lacks can be planned for."""
    with tc.creator_scope(tc.creators.on("cuda:3")):
        assert tc.inspect(nn.Linear, 2, 3)["weight"].device == torch.device("cuda:3")
    with tc.creator_scope(tc.creators.meta()):
        assert tc.inspect(nn.Linear, 2, 3)["weight"].device.type == "meta"


def test_inside_a_fake_mode_the_factory_is_simply_called():
    """Creators act at once there, as in a build, and are told of all the same."""
    with fake_mode(), tc.creator_scope(frozen):
        inventory = tc.inspect(nn.Linear, 2, 3)
    assert [str(d) for d in inventory["weight"].decisions] == ["frozen: trainable True -> False"]


def test_what_seventy_billion_parameters_need():
    """A Llama of 70 billion parameters is inspected under creators in no memory to speak of."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tc.creator_scope(frozen), tc.creator_scope(tc.creators.cast(torch.bfloat16)):
        inventory = tc.inspect(Llama)
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(inventory) == 80 * 9 + 3
    assert inventory.elements == 70_553_706_496
    assert inventory.nbytes == 2 * inventory.elements
    assert added < 128 * 1024  # KiB; the model would take 131 GiB


def test_nothing_is_left_behind():
    """A model that the factory did not make itself is as it was."""
    model = nn.Linear(2, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with tc.creator_scope(frozen), tc.creator_scope(tc.creators.initialize(nn.init.zeros_)):
        inventory = tc.inspect(lambda: model)
        tc.inspect(nn.Linear, 2, 3)
    assert told(inventory, "trainable") == {"weight": False, "bias": False}
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.weight.requires_grad
    assert list(tc.named_specs(model)) == []
    pickle.dumps(model)  # a deferred one could not be


def test_the_generator_is_left_alone():
    """Inspecting a factory draws no random number, creators that initialise included."""
    state = torch.get_rng_state()
    with tc.creator_scope(tc.creators.initialize(nn.init.normal_)):
        tc.inspect(nn.Linear, 2, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_values_are_not_asked_for():
    """An initial value that is a function is not called where the shape is known."""

    def costly():
        pytest.fail("an inspection asked for a value")

    def valued(next_creator, **kwargs):
        return next_creator(**{**kwargs, "initial_value": costly})

    with tc.creator_scope(valued):
        assert tc.inspect(nn.Linear, 2, 3)["weight"].shape == (3, 2)


def test_a_value_may_be_asked_for():
    """A creator that looks at the initial value gets the true one."""

    def scaled(next_creator, **kwargs):
        largest = kwargs["initial_value"]().abs().max().item()
        return next_creator(**{**kwargs, "tags": {"largest": largest}})

    with tc.creator_scope(scaled):
        assert tc.inspect(nn.LayerNorm, 2)["weight"].tags == {"largest": 1.0}


def test_a_checkpoint_is_checked(tmp_path):
    """Under `from_checkpoint`, what would be missing is an error before anything is made."""
    path = tmp_path / "state.pt"
    torch.save(nn.Linear(2, 3).state_dict(), path)
    with tc.creator_scope(tc.creators.from_checkpoint(path)):
        assert len(tc.inspect(nn.Linear, 2, 3)) == 2
        with pytest.raises(tc.TorchCreatorError, match=r"missing in the files[\s\S]*0.weight"):
            tc.inspect(lambda: nn.Sequential(nn.Linear(2, 3)))


def test_what_is_no_model_is_refused():
    """Neither module nor factory, a factory of something else, arguments for a model: errors."""
    with pytest.raises(TypeError, match=r"inspect\(\) got 3.\nIt lists"):
        tc.inspect(3)
    with pytest.raises(TypeError, match="returned 3"):
        tc.inspect(lambda: 3)
    with fake_mode(), pytest.raises(TypeError, match=r"inspect\(\) got 3"):
        tc.inspect(lambda: 3)
    with pytest.raises(TypeError, match="a Linear that is made already, and arguments"):
        tc.inspect(nn.Linear(2, 3), 4)
    with (
        tc.creator_scope(lambda next_creator, **kwargs: 3),
        tc.creator_scope(passing),
        pytest.raises(TypeError, match="A creator returned 3 for 'weight'"),
    ):
        tc.inspect(nn.Linear, 2, 3)


def test_a_failing_factory_leaves_no_trace():
    """What a factory raises comes out, and nobody is traced any more."""

    def failing():
        with tc.creator_scope(passing):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tc.inspect(failing)
    assert observers.tracer is None


def test_another_shape_is_refused_as_in_a_build():
    """A creator that changes a shape is told so with the full name."""

    def wider(next_creator, **kwargs):
        return next_creator(**{**kwargs, "shape": (9, 9)})

    with tc.creator_scope(wider), pytest.raises(TypeError, match=r"'0.weight' another shape"):
        tc.inspect(lambda: nn.Sequential(nn.Linear(2, 3)))


def test_a_creator_that_answers_has_its_own_parameter():
    """What it returns is what is listed."""
    with tc.creator_scope(answering):
        row = tc.inspect(nn.Linear, 2, 3)["bias"]
    assert (row.trainable, row.device.type, row.declared) == (False, "cpu", False)


def shards(rank):
    mesh = init_device_mesh("cpu", (2,))
    model = tc.defer(nn.Linear, 4, 8)
    fully_shard(model, mesh=mesh)
    fsdp = tc.inspect(model)["weight"].document()
    with tc.creator_scope(tc.creators.sharded(mesh, [Shard(0)])):
        inventory = tc.inspect(nn.Linear, 4, 8)
    return fsdp, inventory["weight"].document(), str(inventory)


def test_shards_are_told_with_the_whole(tmp_path):
    """A sharded parameter has the shape and bytes of the whole, and the bytes of this rank."""
    for fsdp, created, text in run_ranks(shards, 2, tmp_path):
        for row in (fsdp, created):
            assert (row["shape"], row["bytes"], row["local_bytes"]) == ([8, 4], 128, 64)
            assert (row["placements"], row["device"]) == ("Shard(dim=0)", "cpu")
        (decision,) = created["creators"]
        assert decision["changed"] == {"parameter": ["Parameter float32", decision_of_shard]}
        assert "this rank has 80 B of the 160 B" in text


decision_of_shard = "DTensor Shard(dim=0) float32"
