"""Backward, DDP, FSDP2 and optimizers, by torch's private names."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.support.ranks import run_ranks
from torchcreator._torch.hosts import (
    active_ddp,
    all_sharded_parameters,
    at_end_of_backward,
    current_graph_task,
    ddp_parameters,
    ignore_in_ddp,
    inside_of,
    is_sharded_by_fsdp,
    is_zero_redundancy,
    joins,
    joins_unevenly,
    moved,
    overlapping_optimizer,
    overlaps_with_ddp,
    sharded_parameters,
    split_factor,
    step_on_every_rank,
    steps_in_backward,
)
from torchcreator._torch.tensors import accumulation_hooks, set_accumulation_hooks


def test_a_backward_has_a_number_and_an_end():
    """Inside a backward its number is known, and a callback runs once before it returns."""
    log = []

    def hook(parameter):
        log.append(current_graph_task() >= 0)
        at_end_of_backward(lambda: log.append("end"))

    p = nn.Parameter(torch.ones(1))
    p.register_post_accumulate_grad_hook(hook)
    (p * 2).sum().backward()
    assert log == [True, "end"]
    assert current_graph_task() == -1


def test_ddp_and_fsdp_are_as_we_know_them(tmp_path):
    """DDP leaves alone what it is told to; FSDP2 tells its parameters and its mesh."""

    def look(rank):
        model = nn.Linear(2, 2)
        ignore_in_ddp(model, {"bias"})
        ignore_in_ddp(model, {".bias"})
        ignored = DistributedDataParallel(model).parameters_to_ignore
        sharded = fully_shard(nn.Linear(2, 2, bias=False))
        (held,) = sharded_parameters(sharded)
        before = held.whole
        sharded.unshard()
        same = held.whole is sharded.weight
        dist.barrier()
        return sorted(ignored), before, same, (held.rank, held.size)

    assert run_ranks(look, 2, tmp_path) == [
        ([".bias", "bias"], None, True, (rank, 2)) for rank in range(2)
    ]


def test_every_sharded_parameter_is_listed(tmp_path):
    """What FSDP2 shards in the process is found, module by module; plain modules are not."""

    def look(rank):
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        fully_shard(model[0])
        fully_shard(model)
        found = {id(p.sharded) for p in all_sharded_parameters()}
        return found == {id(p) for p in model.parameters()}

    assert all_sharded_parameters() == []
    assert run_ranks(look, 1, tmp_path) == [True]


def test_fsdp_notices_other_memory(tmp_path):
    """A shard that was exchanged is what the next all-gather gathers."""

    def look(rank):
        model = fully_shard(nn.Linear(2, 2, bias=False))
        with torch.no_grad():
            other = nn.Parameter(torch.full_like(model.weight, 3.0))
        torch.utils.swap_tensors(model.weight, other)
        moved(model)
        return model(torch.ones(1, 2)).tolist()

    assert run_ranks(look, 1, tmp_path) == [[[6.0, 6.0]]]


def test_shards_of_fsdp_are_recognised(tmp_path):
    """A parameter that FSDP2 has cut over several ranks is in its shards; no other is."""

    def look(rank):
        model, alone, plain = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        fully_shard(model)
        with_one = dist.device_mesh.init_device_mesh("cpu", (2, 1), mesh_dim_names=("a", "b"))
        fully_shard(alone, mesh=with_one["b"])
        return [is_sharded_by_fsdp(m.weight) for m in (model, alone, plain)]

    assert run_ranks(look, 2, tmp_path) == [[True, False, False]] * 2


def test_plain_shards_have_no_split_factor():
    """Only the shards of FSDP2 over tensor parallelism have one."""
    from torch.distributed.tensor import Replicate, Shard

    assert split_factor(Shard(0)) is None
    assert split_factor(Replicate()) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_a_zero_redundancy_optimizer_is_recognised(tmp_path):
    """A ZeroRedundancyOptimizer says whether it steps inside DDP's backward; others are none."""

    def look(rank):
        from torch.distributed.optim import ZeroRedundancyOptimizer

        optimizer = ZeroRedundancyOptimizer(nn.Linear(2, 2).parameters(), torch.optim.SGD, lr=1.0)
        return is_zero_redundancy(optimizer), overlaps_with_ddp(optimizer)

    assert not is_zero_redundancy(torch.optim.SGD([nn.Parameter(torch.ones(1))]))
    assert run_ranks(look, 1, tmp_path) == [(True, False)]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_an_optimizer_that_a_communication_hook_steps_is_found(tmp_path):
    """A DDP's hook that torch made for a ZeroRedundancyOptimizer leads to it; others to none."""

    def look(rank):
        from torch.distributed.algorithms.ddp_comm_hooks import ddp_zero_hook, default_hooks
        from torch.distributed.optim import ZeroRedundancyOptimizer

        found = []
        for name in (None, "hook_with_zero_step", "hook_with_zero_step_interleaved"):
            ddp = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
            optimizer = ZeroRedundancyOptimizer(
                ddp.parameters(), torch.optim.SGD, overlap_with_ddp=True, lr=1.0
            )
            hook = default_hooks.allreduce_hook
            if name is not None:
                with mock.patch("torch.distributed.get_backend", return_value="nccl"):
                    hook = getattr(ddp_zero_hook, name)(hook, ddp, optimizer)
            before = overlapping_optimizer(ddp)
            ddp.register_comm_hook(None, hook)
            found.append((before, overlapping_optimizer(ddp) is optimizer))
        return found

    assert run_ranks(look, 1, tmp_path) == [[(None, False), (None, True), (None, True)]]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
def test_a_step_inside_the_backward_is_recognised():
    """A parameter that torch steps in the backward says so; others do not."""
    from torch.distributed.optim import _apply_optimizer_in_backward

    stepped, plain = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    _apply_optimizer_in_backward(torch.optim.SGD, [stepped], {"lr": 1.0})
    assert steps_in_backward(stepped)
    assert not steps_in_backward(plain)


def test_what_fsdp_divides_by_is_followed(tmp_path):
    """The factor that somebody sets is read anew each time; without one it is the mesh's size."""

    def look(rank):
        sharded = fully_shard(nn.Linear(2, 2, bias=False))
        (held,) = sharded_parameters(sharded)
        divisor = held.divisor_later()
        before = held.divisor, divisor()
        sharded.set_gradient_divide_factor(3.0)
        return before, held.divisor, divisor()

    assert run_ranks(look, 2, tmp_path) == [((None, 2), 3.0, 3.0)] * 2


def test_a_ddp_is_active_inside_its_forward_only(tmp_path):
    """It is known there, and before and after nobody is."""

    def look(rank):
        seen = []
        model = nn.Linear(2, 2)
        ddp = DistributedDataParallel(model)
        model.register_forward_pre_hook(lambda module, args: seen.append(active_ddp() is ddp))
        ddp(torch.ones(1, 2))
        return seen, active_ddp() is None

    assert run_ranks(look, 1, tmp_path) == [([True], True)]


def test_who_is_in_a_ddp(tmp_path):
    """A parameter of a DDP that is alive and does not ignore it is held; others are not."""

    def look(rank):
        model, other = nn.Linear(2, 2), nn.Linear(2, 2)
        ignore_in_ddp(model, {"bias", ".bias"})
        ddp = DistributedDataParallel(model)
        unmade = DistributedDataParallel.__new__(DistributedDataParallel)  # by another thread
        found = ddp_parameters()
        del ddp, unmade
        return [id(p) in found for p in (model.weight, model.bias, other.weight)]

    assert run_ranks(look, 1, tmp_path) == [[True, False, False]]


def test_join_is_recognised(tmp_path):
    """A DDP in join() says so, and whether it divides by those that are left."""

    def look(rank):
        ddp = DistributedDataParallel(nn.Linear(2, 2))
        seen = [(joins(ddp), joins_unevenly(ddp))]
        for initial in (True, False):
            with ddp.join(divide_by_initial_world_size=initial):
                seen.append((joins(ddp), joins_unevenly(ddp)))
                ddp(torch.ones(1, 2)).sum().backward()
        return seen

    (seen,) = run_ranks(look, 1, tmp_path)
    assert seen == [(False, False), (True, False), (True, True)]


def test_hooks_that_an_exchange_took_away_can_be_put_back():
    """After `swap_tensors` a hook runs once those that are gone are forgotten."""
    log = []
    p = nn.Parameter(torch.ones(1))
    p.register_post_accumulate_grad_hook(lambda p: log.append("lost"))
    before = inside_of(p)
    torch.utils.swap_tensors(p, nn.Parameter(torch.ones(1)))
    assert inside_of(p) != before
    p.register_post_accumulate_grad_hook(lambda p: log.append("never"))
    p.sum().backward()
    assert log == []
    assert accumulation_hooks(p) is not None
    set_accumulation_hooks(p, None)
    p.register_post_accumulate_grad_hook(lambda p: log.append("runs"))
    p.sum().backward()
    assert log == ["runs"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by an import of torch's
@pytest.mark.parametrize("views", [False, True], ids=["by parameter", "by bucket"])
def test_zero_redundancy_steps_some_parameters_everywhere(tmp_path, views):
    """What is kept out of its partition is stepped on every rank, once, and sent to none."""

    def look(rank):
        from torch.distributed.optim import ZeroRedundancyOptimizer

        shared = nn.Parameter(torch.ones(3))
        own = [nn.Parameter(torch.full((2,), float(rank))) for _ in range(3)]
        groups = [{"params": [shared, own[0]]}, {"params": own[1:], "lr": 2.0}]
        optimizer = ZeroRedundancyOptimizer(
            groups, torch.optim.SGD, lr=1.0, parameters_as_bucket_view=views
        )
        for _ in range(2):
            step_on_every_rank(optimizer, own)
        for p in (shared, *own):
            p.grad = torch.ones_like(p)
        optimizer.step()
        return shared.tolist(), [p.tolist() for p in own]

    for rank, got in enumerate(run_ranks(look, 2, tmp_path)):
        assert got == ([0.0] * 3, [[rank - 1.0] * 2, [rank - 2.0] * 2, [rank - 2.0] * 2])
