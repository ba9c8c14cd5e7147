"""What travels at world size 1,024, counted on torch's fake process group."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
import torch.distributed as dist
from torch import nn
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
            # The last list of tensors is what goes in; all-gather's first is what comes out.
            tensors = args[1] if name == "allgather" else args[0]
            self.calls[name] += 1
            self.bytes[name] += sum(t.nbytes for t in tensors)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def many_ranks():
    """Make this process rank 5 of 1,024 that only pretend to be there."""
    dist.init_process_group("fake", store=FakeStore(), rank=5, world_size=1024)
    yield
    dist.destroy_process_group()


def model_in_thirds():
    policies = itertools.cycle(["sum", "mean", "only_first_replica"])

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "aggregation": next(policies)})

    with tc.creator_scope(creator):
        return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def step(model):
    with Traffic() as traffic:
        model(torch.ones(1, WIDTH, requires_grad=True)).sum().backward()
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
