"""A model that is saved by some ranks is loaded by others, in any direction."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint  # here once, not in each fork
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.support.ranks import run_ranks
from torchcreator.distributed import (
    aggregate_buffer,
    load,
    per_rank_parameters,
    prepare,
    save,
)


class Saved(nn.Module):
    """A value of each kind: shared, per rank, and read together as a sum, a mean, a buffer."""

    def __init__(self, start):
        super().__init__()
        self.shared = tc.variable([7.0 if start < 100 else 0.0] * 6)
        self.expert = tc.variable([float(start)], synchronization="none")
        self.alias = self.expert
        self.seen = tc.variable(start, synchronization="on_read", aggregation="sum")
        self.loss = tc.variable(float(start), synchronization="on_read", aggregation="mean")
        self.register_buffer("tokens", torch.tensor(start))
        aggregate_buffer(self, "tokens", "sum")

    def values(self):
        shared = self.shared.detach()
        whole = shared.full_tensor() if hasattr(shared, "full_tensor") else shared
        total = self.tokens.clone()
        dist.all_reduce(total)
        read = [tc.read_value(self.seen).item(), tc.read_value(self.loss).item(), total.item()]
        return whole.unique().tolist(), self.expert.item(), read


def plain(model):
    return model


def ddp(model):
    return DistributedDataParallel(prepare(model))


def fsdp(model):
    return fully_shard(model, ignored_params=per_rank_parameters(model))


def part(model):
    return nn.Sequential(model)


def checkpointed(model):
    return nn.Sequential(checkpoint_wrapper(model))


# Made from rank + 1: what all of them amount to.
READ = {1: [1, 1.0, 1], 2: [3, 1.5, 3], 3: [6, 2.0, 6]}


HOSTS = {host.__name__: host for host in (plain, ddp, fsdp, part, checkpointed)}
CASES = [("plain", w, "plain", r, "keep") for w in READ for r in READ]
CASES += [("plain", 2, "plain", 3, "repeat"), ("plain", 1, "plain", 3, "repeat")]
CASES += [("part", 2, "checkpointed", 2, "keep"), ("checkpointed", 2, "part", 3, "keep")]
CASES += [("ddp", 2, "fsdp", 3, "keep"), ("fsdp", 3, "ddp", 2, "repeat")]


@pytest.mark.parametrize(
    ("writer", "writers", "reader", "readers", "new_ranks"),
    [pytest.param(*case, id="{1} {0}, {3} {2}, {4}".format(*case)) for case in CASES],
)
def test_from_any_number_of_ranks_to_any_other(
    tmp_path, writer, writers, reader, readers, new_ranks
):
    """What is one value is loaded, sums stay sums, and each rank has its own value again."""

    def write(rank):
        save(HOSTS[writer](Saved(rank + 1)), tmp_path / "saved")

    def read(rank):
        model = Saved(100 + rank)
        load(HOSTS[reader](model), tmp_path / "saved", new_ranks=new_ranks)
        return model.values()

    run_ranks(write, writers, tmp_path)
    for rank, (shared, expert, together) in enumerate(run_ranks(read, readers, tmp_path)):
        assert shared == [7.0]
        assert together == pytest.approx(READ[writers])
        new = 100.0 + rank if new_ranks == "keep" else rank % writers + 1.0
        assert expert == (rank + 1.0 if rank < writers else new)


def test_what_was_never_saved_is_named(tmp_path):
    """A value per rank that the checkpoint knows nothing of is an error, and so is a bad choice."""

    def play(rank):
        save(nn.Linear(1, 1), tmp_path / "saved")
        model = nn.Linear(1, 1)
        model.expert = tc.variable([1.0], synchronization="none")
        messages = []
        for keywords in ({}, {"new_ranks": "zero"}):
            try:
                load(model, tmp_path / "saved", **keywords)
            except tc.TorchCreatorError as error:
                messages.append(str(error))
        return messages

    (messages,) = run_ranks(play, 1, tmp_path)
    assert messages[0].startswith("The checkpoint has no value of variable 'expert'.")
    assert messages[1].startswith("load() got new_ranks='zero'.")
