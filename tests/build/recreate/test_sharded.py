"""A model of which each rank has a part passes the creators as the whole would."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import torchcreator as tc
from tests.support.ranks import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def whole():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def by_fsdp(mesh):
    model = whole()
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def by_columns(mesh):
    model = whole()
    for layer in (model[0], model[2]):
        split = {"weight": [Shard(1)], "bias": [Replicate()]}
        for name, placements in split.items():
            shard = distribute_tensor(getattr(layer, name).detach(), mesh, placements)
            layer.register_parameter(name, nn.Parameter(shard))
    return model


WAYS = {"fully_shard": by_fsdp, "columns": by_columns}


def recreated(model, *creators):
    with tc.creator_scope(*creators):
        return tc.recreate(model)


def of(model):
    return {n: p.full_tensor() for n, p in model.named_parameters()}


def check_policies(model):
    before = {n: (p, p.to_local().data_ptr(), p._version) for n, p in model.named_parameters()}
    seen = {}

    def look(next_creator, **kwargs):
        seen[kwargs["name"]] = kwargs["shape"]
        return next_creator(**kwargs)

    recreated(model, tc.creators.constrain("non_neg", name="*.weight"), look)
    plain = whole()
    assert seen == {n: p.shape for n, p in plain.named_parameters()}
    for name, parameter in model.named_parameters():
        assert before[name] == (parameter, parameter.to_local().data_ptr(), parameter._version)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.ones(1, 6) if not isinstance(model[0].bias, DTensor) else inputs(model)).sum()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, value in of(model).items():
        stepped = plain.get_parameter(name).detach() - 1
        assert torch.equal(value, stepped.clamp(min=0) if "weight" in name else stepped)


def inputs(model):
    plain = torch.ones(1, 6)
    return (
        plain
        if hasattr(model, "unshard")
        else distribute_tensor(plain, model[0].weight.device_mesh, [Replicate()])
    )


def check_values(model):
    plain = whole()
    state = {n: torch.arange(v.numel()).view(v.shape) / 7 for n, v in plain.state_dict().items()}
    memory = [p.to_local().data_ptr() for p in model.parameters()]
    recreated(model, tc.creators.from_checkpoint(state))
    assert all(torch.equal(value, state[name]) for name, value in of(model).items())
    recreated(
        model, tc.creators.initialize(lambda w: w.copy_(torch.arange(w.numel()).view(w.shape)))
    )
    for value in of(model).values():
        assert torch.equal(value, torch.arange(value.numel()).view(value.shape).float())
    assert memory == [p.to_local().data_ptr() for p in model.parameters()]


def check_own_values(model):
    """This rank's part of its own value may be read, no other part, and not the whole."""
    parts = {}

    def read(next_creator, **kwargs):
        value = kwargs["initial_value"]
        with pytest.raises(tc.BuildError, match=f"value of {kwargs['name']!r}, which is sharded"):
            value()
        assert value.shape == kwargs["shape"]
        parts[kwargs["name"]] = value
        return next_creator(**kwargs)

    recreated(model, read)
    local = model[0].weight.to_local()
    rank, size = dist.get_rank(), dist.get_world_size()
    dim = model[0].weight.placements[0].dim
    each = -(-model[0].weight.shape[dim] // size)
    own, other = slice(rank * each, rank * each + local.shape[dim]), slice(0, 5)
    value = parts["0.weight"]
    found = value[own] if dim == 0 else value[:, own]
    assert torch.equal(found, local)
    assert found.data_ptr() != local.data_ptr()
    if size > 1:
        with pytest.raises(tc.BuildError, match=r"creation never communicates"):
            value[other] if dim == 0 else value[:, other]


def check_failures(model):
    before = {n: (p, p.to_local().clone(), p.requires_grad) for n, p in model.named_parameters()}

    def fails(next_creator, **kwargs):
        zeros = {**kwargs, "initial_value": torch.zeros(kwargs["shape"]), "trainable": False}
        next_creator(**zeros)
        if kwargs["name"] == "2.bias":
            raise KeyError(kwargs["name"])
        return kwargs["module"].get_parameter(kwargs["name"].rpartition(".")[2])

    state = {**whole().state_dict(), "2.bias": torch.zeros(7)}
    for creator, kind, words in (
        (fails, KeyError, "2.bias"),
        (tc.creators.cast(torch.float64), tc.CreatorResultError, "another dtype than it has"),
        (tc.creators.on("meta"), tc.CreatorResultError, r"moved '0\.weight', which is sharded"),
        (tc.creators.share(), None, ""),
        (lambda n, **k: nn.Parameter(torch.zeros(k["shape"])), tc.CreatorResultError, "of its own"),
        (tc.creators.from_checkpoint(state), tc.CheckpointError, r"2\.bias: shape \(3,\), in the"),
        (tc.creators.declare(shape=(4, 4)), tc.CreatorResultError, "another shape"),
    ):
        if kind is None:
            recreated(model, creator)
            continue
        with tc.creator_scope(creator), pytest.raises(kind, match=words):
            tc.recreate(model)
        for name, parameter in model.named_parameters():
            same, local, trainable = before[name]
            assert parameter is same
            assert torch.equal(parameter.to_local(), local)
            assert parameter.requires_grad is trainable


def check_trainable(model):
    """Freezing holds where FSDP2 has not gathered the parameters yet, and is refused after."""
    recreated(model, tc.creators.freeze(name="0.*"))
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    model(inputs(model))
    if hasattr(model, "unshard"):
        model.reshard()
        with (
            tc.creator_scope(tc.creators.freeze()),
            pytest.raises(
                tc.DistributedError, match=r"trainable of '2\.weight', which fully_shard"
            ),
        ):
            tc.recreate(model)
        model[0].unshard()
        with (
            tc.creator_scope(tc.creators.constrain("non_neg")),
            pytest.raises(tc.BuildError, match=r"'0\.weight', which fully_shard has gathered"),
        ):
            tc.recreate(model)
    else:
        recreated(model, tc.creators.freeze())
        assert not any(p.requires_grad for p in model.parameters())


CLAIMS = {
    "policies": check_policies,
    "values": check_values,
    "own values": check_own_values,
    "failures": check_failures,
    "trainable": check_trainable,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What went wrong, by the number of ranks, the way of sharding and the claim."""

    def all_of_them(rank):
        mesh, found = init_device_mesh("cpu", (dist.get_world_size(),)), {}
        for way, make in WAYS.items():
            for claim, check in CLAIMS.items():
                try:
                    check(make(mesh))
                except BaseException as error:
                    found[way, claim] = f"{type(error).__name__}: {error}"
        return found

    return run_ranks(all_of_them, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_sharded_model(results, way, claim):
    """On two ranks: full names and shapes, policies, parts of values, all or nothing."""
    assert [found.get((way, claim)) for found in results] == [None, None]
