"""Variables with a process group of their own, in every host."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.distributed.models import feed
from tests.support.ranks import run_ranks
from torchcreator.distributed import aggregate_gradients, data_parallel, per_rank_parameters


class Grouped(nn.Module):
    """A variable shared by a pair of ranks, SUM; and one of all four, MEAN."""

    def __init__(self, rank, group):
        super().__init__()
        self.pair = tc.variable([float(rank)], aggregation="sum", process_group=group)
        self.all = tc.variable([float(rank)], aggregation="mean")

    def forward(self, x):
        return ((self.pair + self.all) * x).sum()


def ddp(model):
    return data_parallel(model)


def plain(model):
    aggregate_gradients(model)
    return model


def fsdp(model):
    fully_shard(model, ignored_params=per_rank_parameters(model))
    aggregate_gradients(model)
    return model


def inner_group(rank):
    """The whole model is trained by pairs: process_group= of the entry points."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    results = []
    for entry in (data_parallel, aggregate_gradients):
        model = Grouped(rank, None)
        host = entry(model, process_group=groups[rank // 2])
        (host if entry is data_parallel else model)(feed(rank)).backward()
        results.append((model.pair.item(), model.pair.grad.item(), model.all.grad.item()))
    return results


def refused(rank):
    group = dist.new_group([0, 1, 2, 3])
    mesh = init_device_mesh("cpu", (4,))
    sharded = Grouped(rank, group)
    fully_shard(sharded)
    messages = []
    for entry, model, keywords in (
        (aggregate_gradients, DistributedDataParallel(Grouped(rank, group)), {}),
        (aggregate_gradients, sharded, {}),
        (data_parallel, Grouped(rank, None), {"process_group": group, "device_mesh": mesh}),
        (data_parallel, fully_shard(Grouped(rank, None)), {}),
        (data_parallel, DistributedDataParallel(Grouped(rank, None)), {}),
        (data_parallel, Grouped(rank, None).requires_grad_(False), {}),
    ):
        try:
            entry(model, **keywords)
        except tc.TorchCreatorError as error:
            messages.append(str(error))
    return messages


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Four ranks in two pairs, in every host, twice without zero_grad."""

    def play(rank):
        groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        results = {}
        for host in (ddp, plain, fsdp):
            model = Grouped(rank, groups[rank // 2])
            called = host(model)
            for _ in range(2):
                called(feed(rank)).backward()
            grad = model.all.grad
            whole = grad.full_tensor() if host is fsdp else grad
            results[host.__name__] = (model.pair.item(), model.pair.grad.item(), whole.item())
        results["inner"] = inner_group(rank)
        results["refused"] = refused(rank)
        return results

    return run_ranks(play, 4, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("host", ["ddp", "plain", "fsdp"])
def test_each_pair_has_its_own_value_and_sum(played, host):
    """Ranks feed 1 to 4: pairs sum to 3 and 7 and start from their first rank; all average 2.5."""
    for rank, results in enumerate(played):
        first, total = ((0.0, 3.0), (2.0, 7.0))[rank // 2]
        assert results[host] == (first, 2 * total, 5.0)


def test_a_model_trained_by_a_group(played):
    """With process_group=, values and gradients stay within the group."""
    for rank, results in enumerate(played):
        first, total, mean = ((0.0, 3.0, 1.5), (2.0, 7.0, 3.5))[rank // 2]
        # Without a group of its own `pair` declares SUM over whatever group trains the model.
        assert results["inner"] == [(first, total, mean)] * 2


def test_what_cannot_be_done_with_a_group_is_refused(played):
    """Each refusal says what to do instead."""
    expected = [
        "'pair' is in the hands of DistributedDataParallel, and has a process group of its own",
        "'pair' is sharded, and has a process group of its own",
        "data_parallel() was given a group twice",
        "Parameter 'pair' of the model is a DTensor",
        "The model is wrapped in DistributedDataParallel already",
        "Grouped has no parameter for DistributedDataParallel",
    ]
    for results in played:
        assert len(results["refused"]) == len(expected)
        for message, part in zip(results["refused"], expected, strict=True):
            assert part in message


def test_a_model_for_one_rank_needs_no_other(tmp_path):
    """In a world of one, every host is plain training."""

    def alone(rank):
        results = []
        for host in (ddp, plain, fsdp):
            model = Grouped(rank, None)
            called = host(model)
            called(torch.tensor([3.0])).backward()
            grads = [model.pair.grad, model.all.grad]
            results.append([g.full_tensor().item() if host is fsdp else g.item() for g in grads])
        return results

    assert run_ranks(alone, 1, tmp_path) == [[[3.0, 3.0]] * 3]
