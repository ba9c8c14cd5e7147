"""A rank that dies or stays away: the others are told within the timeout, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

import torchcreator as tc
from tests.distributed.models import Policies, feed
from tests.support.ranks import rank_outcomes
from torchcreator.distributed import (
    aggregate_gradients,
    data_parallel,
    state_dict,
    synchronize,
    verify,
)

TIMEOUT = 1.5  # of the process group, and so of every collective


def one_step(model, optimizer, rank):
    optimizer.zero_grad()
    model(feed(rank)).backward()
    optimizer.step()


def trained(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.125)


class Scene:
    """A model in a host, one step done; then an action that needs all ranks."""

    def __init__(self, host, rank):
        self.bare = Policies(rank)
        self.model = data_parallel(self.bare) if host == "ddp" else self.bare
        if host == "plain":
            aggregate_gradients(self.model)
        self.optimizer = trained(self.model)
        self.rank = rank
        self.backward()

    def backward(self):
        one_step(self.model, self.optimizer, self.rank)

    def values(self):
        return {name: p.item() for name, p in self.bare.named_parameters()}


ACTIONS = {
    "a backward in DDP": ("ddp", lambda s: s.backward()),
    "a backward in a plain module": ("plain", lambda s: s.backward()),
    "assign": ("plain", lambda s: tc.assign(s.bare.summed, [1.0])),
    "read_value": ("plain", lambda s: tc.read_value(s.bare.counter)),
    "synchronize": ("plain", lambda s: synchronize(s.bare)),
    "state_dict": ("plain", lambda s: state_dict(s.bare)),
    "verify": ("plain", lambda s: verify(s.bare)),
    "data_parallel": ("plain", lambda s: data_parallel(Policies(s.rank))),
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dies_before(scene, action):
    die()


def dies_inside(scene, action):
    threading.Timer(0.3, die).start()
    action(scene)  # the other rank comes later than that


def stays_away(scene, action):
    time.sleep(TIMEOUT + 1)  # until the other is done


FAULTS = {"dies before": dies_before, "dies inside": dies_inside, "stays away": stays_away}


def play(host, action, fault):
    """Return what rank 0 saw: the error, after how long, and whether its values are as before."""

    def rank_main(rank):
        scene = Scene(host, rank)
        before = scene.values()
        if rank == 1:
            return fault(scene, action)
        if fault is dies_inside:
            time.sleep(0.6)
        start = time.monotonic()
        try:
            action(scene)
        except RuntimeError as error:
            took = time.monotonic() - start
            return type(error).__name__, str(error), took, scene.values() == before
        return "no error"

    return rank_main


@pytest.mark.parametrize("fault", ["dies before", "dies inside"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_dead_rank_is_noticed_at_once(tmp_path, action, fault):
    """The survivor raises long before the timeout, and its parameters are as they were."""
    host, act = ACTIONS[action]
    survivor, _ = rank_outcomes(play(host, act, FAULTS[fault]), 2, tmp_path, timeout=30)
    assert survivor.error is None, survivor.error
    kind, message, took, untouched = survivor.result
    assert took < 3
    assert untouched
    if action != "a backward in DDP":  # that one comes from torch's own backward
        assert kind == "DistributedError"
        assert "over 2 ranks (this is rank 0)" in message
        assert "TORCH_DISTRIBUTED_DEBUG=DETAIL" in message


def meet_again(rank, tmp_path):
    """Exchange the process group for one of the same two ranks that waits for TIMEOUT seconds."""
    dist.destroy_process_group()
    dist.init_process_group(
        "gloo",
        init_method=f"file://{tmp_path / 'second'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=TIMEOUT),
    )


@pytest.mark.parametrize("action", ["a backward in DDP", "a backward in a plain module", "verify"])
def test_a_rank_that_stays_away_ends_in_the_timeout(tmp_path, action):
    """The others wait for the group's timeout, not longer, and raise; parameters as they were."""
    host, act = ACTIONS[action]

    def rank_main(rank):
        meet_again(rank, tmp_path)
        return play(host, act, stays_away)(rank)

    (kind, _, took, untouched), _ = (o.result for o in rank_outcomes(rank_main, 2, tmp_path, 30))
    assert kind in ("DistributedError", "RuntimeError")
    assert TIMEOUT - 0.5 < took < TIMEOUT + 2
    assert untouched


def test_a_backward_that_raised_on_one_rank_leaves_the_parameters(tmp_path):
    """Where one rank's backward fails and it ends, the other raises instead of stepping alone."""

    class Faulty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            message = "broken on purpose"
            raise ValueError(message)

    def rank_main(rank):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        aggregate_gradients(model)
        before = [p.detach().clone() for p in model.parameters()]
        hidden = model[0](torch.ones(1, 2))
        hidden = Faulty.apply(hidden) if rank == 1 else hidden
        if rank == 1:
            model[1](hidden).sum().backward()
        try:
            model[1](hidden).sum().backward()
        except RuntimeError as error:
            same = all(map(torch.equal, before, model.parameters()))
            return str(error), same
        return None

    good, bad = rank_outcomes(rank_main, 2, tmp_path, timeout=30)
    assert "broken on purpose" in bad.error
    message, untouched = good.result
    assert message.startswith("The gradients could not be reduced over 2 ranks")
    assert untouched


def test_control_c_ends_every_rank(tmp_path):
    """SIGINT to all ranks, one of them waiting for the other, leaves none behind."""

    def rank_main(rank):
        scene = Scene("plain", rank)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        if rank == 1:
            time.sleep(30)
        scene.backward()

    start = time.monotonic()
    outcomes = rank_outcomes(rank_main, 2, tmp_path, timeout=30)
    assert time.monotonic() - start < 15
    assert all(o.exitcode == 1 for o in outcomes)
    assert "KeyboardInterrupt" in outcomes[1].error
    assert "KeyboardInterrupt" in outcomes[0].error or "DistributedError" in outcomes[0].error


@pytest.mark.parametrize("host", ["ddp", "plain"])
@pytest.mark.parametrize("interrupted", [0, 1], ids=["who waits", "who computes"])
def test_control_c_on_one_rank(tmp_path, host, interrupted):
    """SIGINT to one rank, rank 0 waiting for rank 1, ends both with the values before the step."""

    def rank_main(rank):
        meet_again(rank, tmp_path)
        scene = Scene(host, rank)
        before = scene.values()
        if rank == interrupted:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            if rank == 1:
                time.sleep(TIMEOUT + 1)
            scene.backward()
        except (KeyboardInterrupt, RuntimeError) as ended:
            return type(ended).__name__, scene.values() == before

    start = time.monotonic()
    ends = [o.result for o in rank_outcomes(rank_main, 2, tmp_path, timeout=30)]
    assert time.monotonic() - start < 15
    told = "RuntimeError" if host == "ddp" else "DistributedError"
    assert ends[interrupted] == ("KeyboardInterrupt", True)
    assert ends[1 - interrupted] == (told, True)


def test_different_creation_orders_are_an_error_before_anything_is_mixed(tmp_path):
    """Creation does not communicate; the entry point names what the ranks hold in which order."""

    def rank_main(rank):
        model = nn.Module()
        for name in ("a", "b") if rank else ("b", "a"):
            model.register_parameter(name, tc.variable([float(rank)], aggregation="sum"))
        try:
            data_parallel(model)
        except tc.TorchCreatorError as error:
            return str(error), model.a.item()

    for rank, outcome in enumerate(rank_outcomes(rank_main, 2, tmp_path)):
        message, value = outcome.result
        assert "in another order: rank 0: b, a; rank 1: a, b" in message
        assert value == rank
