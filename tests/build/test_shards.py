"""A deferred model that was sharded gets, on every rank, its part of the unsharded values."""

from __future__ import annotations

import copy
import itertools
import traceback

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from tests.support.ranks import run_ranks
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import BuildError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

WORLD_SIZES = [1, 2, 3, 4]
SEEDS = [None, 7]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(12, 26)
        self.down = nn.Linear(26, 12)
        self.norm = nn.BatchNorm1d(12)
        self.scale = nn.Parameter(nn.init.trunc_normal_(torch.empty(1)))
        self.register_buffer("table", torch.rand(5))
        self.register_buffer("positions", torch.arange(12).float(), persistent=False)

    def forward(self, x):
        return x + self.norm(self.down(self.up(x).relu())) * self.scale


class Wide(nn.Module):
    """Values larger than a block of a draw, each made in another way."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(333, 300)
        self.mixed = nn.Parameter(nn.init.orthogonal_(torch.empty(300, 120)).mul_(2))
        self.cut = nn.Parameter(nn.init.trunc_normal_(torch.empty(700, 111), a=-1, b=1))
        self.rounded = nn.Parameter(torch.empty(500, 204, dtype=torch.bfloat16).normal_())
        self.turned = nn.Parameter(torch.randn(240, 201).t().contiguous())
        self.joined = nn.Parameter(torch.cat([torch.randn(100, 400), torch.ones(77, 400)]) / 3)
        with torch.no_grad():
            self.joined[:, 7] = 5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 12, padding_idx=2)
        layer = Block()
        self.blocks = nn.ModuleList([layer, copy.deepcopy(layer)])
        self.wide = Wide()
        self.head = nn.Linear(12, 11, bias=False)
        self.head.weight = self.embed.weight
        for module in self.blocks.modules():
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


def deferred(seed):
    torch.manual_seed(0)
    return defer(Net, seed=seed)


def assert_equals_whole(model, seed):
    """Assert that gathered parameters and buffers equal those of the unsharded model."""
    expected = whole(seed)
    ours = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    theirs = [*expected.named_parameters(remove_duplicate=False), *expected.named_buffers()]
    for name, tensor in theirs:
        own = ours[name]
        assert torch.equal(own.full_tensor() if isinstance(own, DTensor) else own, tensor), name
        assert own.requires_grad == tensor.requires_grad, name
        assert type(own) is type(tensor) or isinstance(own, DTensor), name
        assert not isinstance(own, DTensor) or own.to_local().is_contiguous(), name
    assert model.head.weight is model.embed.weight
    return expected


def fully_sharded(model, **options):
    for block in model.blocks:
        fully_shard(block, **options)
    return fully_shard(model, **options)


def with_fsdp2(seed):
    """FSDP2: every rank's shards are the whole model's, and forward and backward work."""
    model = fully_sharded(deferred(seed))
    assert materialize(model) is model
    assert all(isinstance(p, DTensor) for p in model.parameters())
    expected = assert_equals_whole(model, seed)
    for parameter in model.wide.parameters():  # not used
        parameter.requires_grad_(False)
    tokens = torch.arange(8)
    out = model(tokens)
    assert torch.allclose(out, expected(tokens), atol=1e-4)
    out.sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def offloaded(seed):
    """FSDP2 with its parameters kept on the CPU."""
    policy = CPUOffloadPolicy(pin_memory=False)
    assert_equals_whole(materialize(fully_sharded(deferred(seed), offload_policy=policy)), seed)


def by_columns(seed):
    """FSDP2 with a placement of the caller's for what can be cut that way."""
    ranks = dist.get_world_size()

    def place(parameter):
        even = parameter.dim() > 1 and parameter.size(1) % ranks == 0
        return Shard(1) if even else Shard(0)

    model = fully_sharded(deferred(seed), shard_placement_fn=place)
    assert_equals_whole(materialize(model), seed)


def distributed_module(seed):
    """DTensor's `distribute_module`, sharded by rows, columns and replicated."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    placements = itertools.cycle([Shard(0), Shard(1), Replicate()])

    def place(name, module, mesh):
        for local, parameter in list(module.named_parameters(recurse=False)):
            placement = next(placements) if parameter.dim() > 1 else Shard(0)
            sharded = distribute_tensor(parameter, mesh, [placement])
            module.register_parameter(local, nn.Parameter(sharded))

    model = deferred(seed)
    head, model.head = model.head, None
    model = distribute_module(model, mesh, place)
    head.weight, model.head = model.embed.weight, head
    assert_equals_whole(materialize(model), seed)


def parallelised(seed):
    """Tensor parallelism: the plan's shards, uneven ones too, and the forward agree."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = deferred(seed)
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    expected = assert_equals_whole(materialize(model), seed)
    if 26 % dist.get_world_size() == 0:
        tokens = torch.arange(4)
        assert torch.allclose(model(tokens), expected(tokens), atol=1e-4)


def hybrid(seed):
    """HSDP: shards that several ranks hold."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    assert_equals_whole(materialize(fully_sharded(deferred(seed), mesh=mesh)), seed)


def over_tensor_parallelism(seed):
    """Two dimensions: FSDP2 over tensor parallelism, whose shards are strided."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    model = deferred(seed)
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    for block in model.blocks:
        parallelize_module(block, mesh["tensor"], plan)
    parallelize_module(model.wide, mesh["tensor"], {"linear": ColwiseParallel()})
    fully_sharded(model, mesh=mesh["data"])
    assert_equals_whole(materialize(model), seed)


def on_a_mesh_of_two_dimensions(seed):
    """One tensor over two mesh dimensions, in all ways but the strided one."""
    mesh = init_device_mesh("cpu", (2, 2))
    for placements in ([Shard(0), Shard(1)], [Shard(0), Replicate()], [Shard(0), Shard(0)]):
        model = deferred(seed)
        shards = distribute_tensor(model.wide.linear.weight.detach(), mesh, placements)
        model.wide.linear.weight = nn.Parameter(shards)
        assert_equals_whole(materialize(model), seed)


WAYS = [with_fsdp2, offloaded, by_columns, distributed_module, parallelised]
FOR_FOUR = [hybrid, over_tensor_parallelism, on_a_mesh_of_two_dimensions]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Every way to shard, exact and seeded, tried on worlds of one to four ranks."""

    def every(_):
        ways = [*WAYS, *(FOR_FOUR if dist.get_world_size() == 4 else [])]
        wrong = {}
        for way, seed in itertools.product(ways, SEEDS):
            try:
                way(seed)
            except Exception:
                wrong[way.__name__, seed] = traceback.format_exc()
        return wrong

    path = tmp_path_factory.mktemp("ranks")
    return {size: run_ranks(every, size, path, timeout=120) for size in WORLD_SIZES}


@pytest.mark.parametrize("seed", SEEDS, ids=["exact", "seeded"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_shards_are_parts_of_the_whole(world_size, way, seed, played):
    """However a deferred model is sharded, its shards are cut from the unsharded model's values."""
    for wrong in played[world_size]:
        assert wrong.get((way.__name__, seed)) is None


@pytest.mark.parametrize("seed", SEEDS, ids=["exact", "seeded"])
@pytest.mark.parametrize("way", FOR_FOUR, ids=lambda way: way.__name__)
def test_shards_over_two_dimensions(way, seed, played):
    """The same on a mesh of two by two ranks."""
    for wrong in played[4]:
        assert wrong.get((way.__name__, seed)) is None


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
