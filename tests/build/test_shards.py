"""A deferred model that was sharded gets, on every rank, its part of the unsharded values."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import torchcreator as tc
from tests.support.ranks import run_ranks
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import BuildError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

WORLD_SIZES = [1, 2, 3, 4]
SEEDS = [pytest.param(None, id="exact"), pytest.param(7, id="seeded")]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(6, 13)
        self.down = nn.Linear(13, 6)
        self.norm = nn.BatchNorm1d(6)
        self.scale = nn.Parameter(nn.init.trunc_normal_(torch.empty(1)))
        self.register_buffer("table", torch.rand(5))

    def forward(self, x):
        return x + self.norm(self.down(self.up(x).relu())) * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        layer = Block()
        self.blocks = nn.ModuleList([layer, copy.deepcopy(layer)])
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def whole(seed):
    torch.manual_seed(0)
    return Net() if seed is None else build(Net, seed=seed)


def assert_equals_whole(model, seed):
    """Assert that gathered parameters and buffers equal those of the unsharded model."""
    expected = whole(seed)
    for name, tensor in expected.state_dict(keep_vars=True).items():
        ours = model.state_dict(keep_vars=True)[name]
        full = ours.full_tensor() if isinstance(ours, DTensor) else ours
        assert torch.equal(full, tensor), name
        assert ours.requires_grad == tensor.requires_grad, name
        assert type(ours) is type(tensor) or isinstance(ours, DTensor), name
    return expected


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_fully_shard(world_size, seed, tmp_path):
    """FSDP2: every rank's shards are the whole model's, and forward and backward work."""

    def rank(_):
        torch.manual_seed(0)
        model = defer(Net, seed=seed)
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        assert materialize(model) is model
        assert all(isinstance(p, DTensor) for p in model.parameters())
        expected = assert_equals_whole(model, seed)
        assert model.head.weight is model.embed.weight
        tokens = torch.arange(8)
        out = model(tokens)
        assert torch.allclose(out, expected(tokens), atol=1e-6)
        out.sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert all(p.grad is not None for p in model.parameters())

    run_ranks(rank, world_size, tmp_path)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_distribute_module(world_size, seed, tmp_path):
    """DTensor's `distribute_module`, sharded by rows, columns and replicated."""

    def rank(_):
        mesh = init_device_mesh("cpu", (world_size,))

        def place(name, module, mesh):
            for local, parameter in list(module.named_parameters(recurse=False)):
                dim = {"up": Shard(0), "down": Shard(1)}.get(name.rpartition(".")[2])
                placement = dim if dim is not None and parameter.dim() > 1 else Replicate()
                sharded = distribute_tensor(parameter, mesh, [placement])
                module.register_parameter(local, nn.Parameter(sharded))

        torch.manual_seed(0)
        model = materialize(distribute_module(defer(Net, seed=seed), mesh, place))
        assert_equals_whole(model, seed)

    run_ranks(rank, world_size, tmp_path)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_parallelize_module(world_size, seed, tmp_path):
    """Tensor parallelism: the plan's shards, uneven ones too, and the forward agree."""

    def rank(_):
        mesh = init_device_mesh("cpu", (world_size,))
        torch.manual_seed(0)
        model = defer(Net, seed=seed)
        for block in model.blocks:
            parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
        materialize(model)
        expected = assert_equals_whole(model, seed)
        if 13 % world_size == 0:
            assert torch.allclose(model(torch.arange(4)), expected(torch.arange(4)), atol=1e-6)

    run_ranks(rank, world_size, tmp_path)


@pytest.mark.parametrize("seed", SEEDS)
def test_fully_shard_over_tensor_parallelism(seed, tmp_path):
    """Two dimensions: FSDP2 over tensor parallelism, whose shards are strided."""

    class Even(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(8, 16)
            self.down = nn.Linear(16, 8)

        def forward(self, x):
            return self.down(self.up(x).relu())

    def rank(_):
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        torch.manual_seed(0)
        expected = Even() if seed is None else build(Even, seed=seed)
        torch.manual_seed(0)
        model = defer(Even, seed=seed)
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        parallelize_module(model, mesh["tensor"], plan)
        fully_shard(model, mesh=mesh["data"])
        materialize(model)
        x = torch.rand(4, 8)
        dist.broadcast(x, 0)
        assert torch.allclose(model(x), expected(x), atol=1e-6)

    run_ranks(rank, 4, tmp_path)


def test_ranks_need_not_agree_to_materialise(tmp_path):
    """Nothing is communicated: a rank alone can materialise its shards."""

    def rank(number):
        model = defer(Net, seed=0)
        fully_shard(model)
        if number == 0:
            materialize(model)
        dist.barrier()
        if number == 1:
            materialize(model)
        assert_equals_whole(model, 0)

    run_ranks(rank, 2, tmp_path)


def test_scope_around_a_sharded_model(tmp_path):
    """Creators cannot make a part of a parameter: inside a scope it is an error."""

    def rank(_):
        model = defer(Net)
        fully_shard(model)
        with (
            tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs)),
            pytest.raises(BuildError, match=r"inside a creator_scope, and 'embed\.weight'"),
        ):
            materialize(model)

    run_ranks(rank, 2, tmp_path)


def test_a_shard_under_a_name_of_later_has_no_value(tmp_path):
    """What was renamed between ``defer`` and ``materialize`` is named in the error."""

    def rank(_):
        mesh = init_device_mesh("cpu", (2,))
        model = defer(nn.Linear, 4, 6)
        weight = distribute_tensor(model.weight.detach(), mesh, [Shard(0)])
        del model.weight
        model.renamed = nn.Parameter(weight)
        with pytest.raises(BuildError, match=r"'renamed' is on the meta device, and was added"):
            materialize(model)

    run_ranks(rank, 2, tmp_path)


def test_a_rank_outside_the_mesh_has_no_part(tmp_path):
    """It materialises like the others, and holds nothing of what is sharded."""

    def rank(_):
        mesh = DeviceMesh("cpu", [0, 1])
        model = defer(nn.Linear, 4, 6)
        model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), mesh, [Shard(0)]))
        materialize(model)
        return model.weight.to_local().numel()

    assert run_ranks(rank, 3, tmp_path) == [12, 12, 0]
