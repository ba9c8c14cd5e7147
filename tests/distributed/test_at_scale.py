"""What travels at world size 1,024, counted on torch's fake process group."""

from __future__ import annotations

import gc
import itertools
import math
from collections import Counter

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

import torchcreator as tc
from torchcreator.distributed import aggregate_gradients, data_parallel, verify

LAYERS, WIDTH = 30, 100
ELEMENTS = LAYERS * (WIDTH * WIDTH + WIDTH)
MIB = 1 << 20


class Traffic(TorchDispatchMode):
    """Counts collectives, and the bytes that this rank puts into them."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()
        self.bytes = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::").rstrip("_")
            # What gathers or scatters is given what comes out first, and then what goes in.
            given = args[0] if name in ("allreduce", "broadcast") else args[1]
            self.calls[name] += 1
            self.bytes[name] += sum(
                t.nbytes for t in ([given] if torch.is_tensor(given) else given)
            )
        return func(*args, **(kwargs or {}))


@pytest.fixture
def many_ranks():
    """Make this process rank 5 of 1,024 that only pretend to be there."""
    dist.init_process_group("fake", store=FakeStore(), rank=5, world_size=1024)
    yield
    dist.destroy_process_group()
    gc.collect()  # FSDP2 lists its modules for the whole process


def model_in_thirds():
    policies = itertools.cycle(["sum", "mean", "only_first_replica"])

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "aggregation": next(policies)})

    with tc.creator_scope(creator):
        return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def step(model, width=WIDTH):
    with Traffic() as traffic:
        model(torch.ones(1, width, requires_grad=True)).sum().backward()
    return traffic


def test_ddp_sends_each_gradient_once(many_ranks):
    """A step sends each gradient once, in one all-reduce per bucket of DDP's."""
    # Plain DDP cannot be counted beside it: its built-in reduction reads a result that the fake
    # group does not give.
    ddp = data_parallel(model_in_thirds(), bucket_cap_mb=0.25)
    for _ in range(3):
        got = step(ddp)
        assert got.bytes["allreduce"] == 4 * ELEMENTS
    assert got.calls == {"allreduce": math.ceil(LAYERS / 7)}  # 40 kB a layer, 7 in 0.25 MiB


def test_a_plain_module_sends_a_count_per_parameter_more(many_ranks):
    """A step of a plain module is one all-reduce per 25 MiB, with one more number a parameter."""
    model = model_in_thirds()
    aggregate_gradients(model)
    got = step(model)
    assert got.calls == {"allreduce": math.ceil(4 * ELEMENTS / (25 * MIB))}
    assert got.bytes["allreduce"] == 4 * (ELEMENTS + 2 * LAYERS)


def sharded(aggregation, **options):
    """Return three layers of 1,024 units, each a group of FSDP2's, with a policy for all."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "aggregation": aggregation})

    with tc.creator_scope(creator):
        model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(3)))
    for layer in model:
        fully_shard(layer, **options)
    return fully_shard(model, **options)


SHARDED_BYTES = 3 * 4 * (1024 * 1024 + 1024)


@pytest.mark.parametrize("aggregation", ["none", "mean", "sum", "only_first_replica"])
def test_fsdp2_sends_what_it_sends_without_policies(many_ranks, aggregation):
    """Under every policy a step gathers each shard twice, and scatters each gradient once."""
    model = sharded(aggregation)
    with Traffic() as set_up:
        aggregate_gradients(model)
    gathered = 3 if aggregation in ("sum", "only_first_replica") else 0
    assert set_up.calls == {"allgather": 1} | ({"_allgather_base": 3} if gathered else {})
    for _ in range(2):
        got = step(model, 1024)
        assert got.calls == {"_allgather_base": 6, "_reduce_scatter_base": 3}
        assert got.bytes["_allgather_base"] == 2 * SHARDED_BYTES / 1024
        assert got.bytes["_reduce_scatter_base"] == SHARDED_BYTES


def test_hybrid_sharding_adds_an_all_reduce_of_each_shard(many_ranks):
    """Over 128 replicas of 8 shards, a step also reduces each shard over the replicas."""
    names = ("replicate", "shard")
    mesh = dist.device_mesh.init_device_mesh("cpu", (128, 8), mesh_dim_names=names)
    model = sharded("sum", mesh=mesh)
    with Traffic() as set_up:
        aggregate_gradients(model)
    assert set_up.calls == {"allgather": 1, "broadcast": 1, "_allgather_base": 3}
    assert set_up.bytes["broadcast"] == SHARDED_BYTES / 8
    got = step(model, 1024)
    assert got.calls == {"_allgather_base": 6, "_reduce_scatter_base": 3, "allreduce": 3}
    assert got.bytes["_reduce_scatter_base"] == SHARDED_BYTES
    assert got.bytes["allreduce"] == SHARDED_BYTES / 8


@pytest.mark.parametrize("ranks", [2, 1024, 100_000])
@pytest.mark.parametrize("attach", [data_parallel, aggregate_gradients])
def test_what_a_rank_puts_in_does_not_depend_on_how_many_there_are(ranks, attach):
    """A step of DDP or of a plain module sends as much on two ranks as on 100,000."""
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=ranks)
    model = model_in_thirds()
    attached = attach(model)
    got = step(attached if attach is data_parallel else model)
    counts = 0 if attach is data_parallel else 2 * LAYERS
    assert got.bytes == {"allreduce": 4 * (ELEMENTS + counts)}
    del attached
    dist.destroy_process_group()


def test_variables_with_groups_of_their_own_travel_there(many_ranks):
    """Each process group, device and dtype has all-reduces of its own."""
    model = nn.Module()
    model.shared = nn.Parameter(torch.zeros(WIDTH))
    for i in range(4):
        group = dist.new_group(range(8)) if i % 2 else None
        value = torch.zeros(WIDTH, dtype=torch.float64 if i > 1 else torch.float32)
        made = tc.variable(value, name=f"v{i}", aggregation="sum", process_group=group)
        model.register_parameter(f"v{i}", made)
    aggregate_gradients(model)
    with Traffic() as got:
        torch.stack([p.sum().double() for p in model.parameters()]).sum().backward()
    # v0 goes with the undeclared one; v1, v2 and v3 differ in group, in dtype, and in both.
    assert got.calls == {"allreduce": 4}
    assert got.bytes["allreduce"] == (4 + 4 + 4 + 8 + 8) * (WIDTH + 1)


def test_compression_halves_the_bytes(many_ranks):
    """With compress=torch.bfloat16 a step sends half, in as many collectives."""
    got = step(data_parallel(model_in_thirds(), compress=torch.bfloat16))
    assert got.bytes["allreduce"] == 2 * ELEMENTS


def test_setting_up_costs_one_digest_and_the_values(many_ranks):
    """The entry points send 16 bytes to compare declarations, then the values once."""
    model = model_in_thirds()
    with Traffic() as traffic:
        aggregate_gradients(model)
    assert traffic.calls == {"allgather": 1, "broadcast": 1}
    assert traffic.bytes == {"allgather": 16, "broadcast": 4 * ELEMENTS}


def test_verification_sends_two_digests(many_ranks):
    """Comparing declarations and values of a whole model sends 32 bytes a rank."""
    with Traffic() as traffic:
        verify(model_in_thirds())
    assert traffic.calls == {"allgather": 2}
    assert traffic.bytes == {"allgather": 32}


def test_per_rank_variables_send_nothing(many_ranks):
    """A model whose variables are all per rank takes part in no collective."""

    def local(next_creator, **kwargs):
        return next_creator(**{**kwargs, "synchronization": "none"})

    with tc.creator_scope(local):
        model = nn.Linear(WIDTH, WIDTH)
    aggregate_gradients(model)
    assert step(model).calls == {}
