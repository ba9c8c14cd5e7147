"""Creators act on the shards of a finished model: policies, and this rank's part of values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

import torchcreator as tc
from tests.support.ranks import claims_on_ranks
from torchcreator import creators

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def finished():
    """Return a sharded model that has its values, and the same one whole."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 5))
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 5))
    return fully_shard(model), whole


def policies():
    """A policy leaves the parameter what it is, and is carried out."""
    model, _ = finished()
    before = dict(model.named_parameters())
    with tc.creator_scope(
        creators.constrain("non_neg", name="*.weight"), creators.freeze(name="0.bias")
    ):
        assert tc.recreate(model) is model
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert tc.spec_of(model[0].weight).shape == (7, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    model(torch.ones(2, 5)).sum().backward()
    optimizer.step()
    assert (model[0].weight.full_tensor() >= 0).all()
    assert model[0].bias.grad is None


def values():
    """A value that is set is cut, one that wraps its own by slices is this rank's part."""

    class Doubled:
        def __init__(self, value):
            self.value, self.shape = value, value.shape

        def __getitem__(self, index):
            return self.value[index] * 2

    def change(next_creator, **kwargs):
        if kwargs["name"] == "0.weight":
            kwargs["initial_value"] = Doubled(kwargs["initial_value"])
        if kwargs["name"] == "1.weight":
            kwargs["initial_value"] = torch.arange(35.0).view(5, 7)
        if kwargs["name"] == "1.bias":
            kwargs["initial_value"] = nn.init.ones_
        return next_creator(**kwargs)

    model, whole = finished()
    memory = model[0].weight.to_local().data_ptr()
    with tc.creator_scope(change):
        tc.recreate(model)
    assert torch.equal(model[0].weight.full_tensor(), whole[0].weight * 2)
    assert model[0].weight.to_local().data_ptr() == memory
    assert torch.equal(model[1].weight.full_tensor(), torch.arange(35.0).view(5, 7))
    assert torch.equal(model[1].bias.full_tensor(), torch.ones(5))
    assert torch.equal(model(torch.ones(1, 5)), model(torch.ones(1, 5)))


def columns():
    """The same for a tensor that a mesh shards without FSDP2."""
    mesh = init_device_mesh("cpu", (2,))
    model = nn.Linear(5, 7)
    model.weight = nn.Parameter(distribute_tensor(torch.ones(7, 5), mesh, [Shard(1)]))
    whole = torch.arange(35.0).view(7, 5)
    with tc.creator_scope(creators.from_checkpoint({"weight": whole, "bias": torch.zeros(7)})):
        tc.recreate(model)
    assert torch.equal(model.weight.full_tensor(), whole)
    assert not model.bias.any()


def errors():
    """What cannot be changed any more is named, and nothing has changed."""

    def whole_value(next_creator, **kwargs):
        value = kwargs["initial_value"]
        return next_creator(**{**kwargs, "initial_value": lambda: value() * 2})

    def own(next_creator, **kwargs):
        return nn.Parameter(torch.zeros(kwargs["shape"]))

    for creator, message in [
        (whole_value, "More than this rank's part of '1.weight'"),
        (own, "a parameter of its own for '1.weight', which is sharded"),
        (creators.cast(torch.float64), "'1.weight', which is sharded, another dtype"),
        (creators.on("meta"), "'1.weight', which is sharded, on another device"),
    ]:
        model, whole = finished()
        first = creators.declare(trainable=False, name="0.weight")
        second = creators.where(creator, name="1.weight")
        with (
            tc.creator_scope(first, second),
            pytest.raises(tc.TorchCreatorError, match=message),
        ):
            tc.recreate(model)
        assert model[0].weight.requires_grad
        assert torch.equal(model[1].weight.full_tensor(), whole[1].weight)


def seen_at_once():
    """What `next_creator` returns has the value already; a failure after that puts it back."""

    def zeros(next_creator, **kwargs):
        made = next_creator(**{**kwargs, "initial_value": torch.zeros(kwargs["shape"])})
        assert not made.to_local().any()
        return made

    def fails(next_creator, **kwargs):
        if kwargs["name"] == "1.bias":
            raise KeyError(kwargs["name"])
        return next_creator(**kwargs)

    model, whole = finished()
    with tc.creator_scope(fails, zeros), pytest.raises(KeyError):
        tc.recreate(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.full_tensor(), whole.get_parameter(name))


def checkpoints():
    """A checkpoint is read in parts; one that does not fit says all of it, and changes nothing."""
    model, whole = finished()
    state = {n: torch.arange(v.numel()).view(v.shape) / 7 for n, v in whole.state_dict().items()}
    wrong = {**state, "1.bias": torch.zeros(9)}
    with (
        tc.creator_scope(creators.from_checkpoint(wrong)),
        pytest.raises(tc.CheckpointError, match=r"1\.bias: shape \(5,\), in the file \(9,\)"),
    ):
        tc.recreate(model)
    assert torch.equal(model[0].weight.full_tensor(), whole[0].weight)
    memory = [p.to_local().data_ptr() for p in model.parameters()]
    with tc.creator_scope(creators.from_checkpoint(state)):
        tc.recreate(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.full_tensor(), state[name])
    assert [p.to_local().data_ptr() for p in model.parameters()] == memory


def trainable():
    """Freezing holds until FSDP2 has gathered a parameter for the first time, and not after."""
    model, _ = finished()
    with tc.creator_scope(creators.freeze(name="0.*")):
        tc.recreate(model)
    model(torch.ones(1, 5)).sum().backward()
    assert [p.grad is None for p in model.parameters()] == [True, True, False, False]
    model.reshard()
    with (
        tc.creator_scope(creators.freeze()),
        pytest.raises(tc.DistributedError, match=r"trainable of '1\.weight', which fully_shard"),
    ):
        tc.recreate(model)


CLAIMS = [policies, values, columns, errors, seen_at_once, checkpoints, trainable]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Each claim, tried on two ranks."""
    return claims_on_ranks(CLAIMS, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_claim(claim, played):
    """It holds on both ranks."""
    for wrong in played:
        assert claim.__name__ not in wrong, wrong[claim.__name__]
