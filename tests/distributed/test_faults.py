"""A rank that dies or stays away: the others are told within the timeout, and nothing is lost."""

from __future__ import annotations

import contextlib
import multiprocessing
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

SOON = 0.3  # seconds in which a rank gets to where it waits for the other
TIMEOUT = 1.0  # of the process group, and so of every collective, once `impatient`


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


def wait_for_the_end_of(pid):
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(0.01)


def attempt(scene, action):
    """Return what the action raised, after how long, and whether the values are as before."""
    before, start = scene.values(), time.monotonic()
    try:
        action(scene)
    except RuntimeError as error:
        took = time.monotonic() - start
        return type(error).__name__, str(error), took, scene.values() == before
    return "no error"


def survive(host, action, fault):
    """Return a function of a rank: rank 1 dies, and rank 0 tells what it saw."""

    def rank_main(rank):
        scene, pids = Scene(host, rank), [0, 0]
        dist.all_gather_object(pids, os.getpid())
        if rank == 1:
            if fault == "dies inside":
                threading.Timer(SOON, die).start()
                action(scene)
            die()
        wait_for_the_end_of(pids[1])
        return attempt(scene, action)

    return rank_main


@pytest.mark.parametrize("fault", ["dies before", "dies inside"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_dead_rank_is_noticed_at_once(tmp_path, action, fault):
    """The survivor raises long before the timeout, and its parameters are as they were."""
    host, act = ACTIONS[action]
    survivor, _ = rank_outcomes(survive(host, act, fault), 2, tmp_path)
    assert survivor.error is None, survivor.error
    kind, message, took, untouched = survivor.result
    assert took < 10  # of 60
    assert untouched
    if action != "a backward in DDP":  # that one comes from torch's own backward
        assert kind == "DistributedError"
        assert "over 2 ranks (this is rank 0)" in message
        assert "TORCH_DISTRIBUTED_DEBUG=DETAIL" in message


def impatient():
    """Let collectives wait for TIMEOUT seconds from now on."""
    dist.barrier()
    dist.group.WORLD.set_timeout(timedelta(seconds=TIMEOUT))


@pytest.mark.parametrize("action", ["a backward in DDP", "a backward in a plain module", "verify"])
def test_a_rank_that_stays_away_ends_in_the_timeout(tmp_path, action):
    """The others wait for the group's timeout, not longer, and raise; parameters as they were."""
    host, act = ACTIONS[action]
    done = multiprocessing.get_context("fork").Event()

    def rank_main(rank):
        scene = Scene(host, rank)
        impatient()
        if rank == 1:
            return done.wait()
        try:
            return attempt(scene, act)
        finally:
            done.set()

    (kind, _, took, untouched), _ = (o.result for o in rank_outcomes(rank_main, 2, tmp_path))
    assert kind in ("DistributedError", "RuntimeError")
    assert TIMEOUT - 0.5 < took < 30  # of 60
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

    good, bad = rank_outcomes(rank_main, 2, tmp_path)
    assert "broken on purpose" in bad.error
    message, untouched = good.result
    assert message.startswith("The gradients could not be reduced over 2 ranks")
    assert untouched


def interrupt_soon():
    """Send this rank what Ctrl-C sends, once it waits, whatever its parents do about Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(SOON, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_control_c_ends_every_rank(tmp_path):
    """SIGINT to all ranks, one of them waiting for the other, leaves none behind."""

    def rank_main(rank):
        scene = Scene("plain", rank)
        interrupt_soon()
        if rank == 1:
            signal.pause()
        scene.backward()

    outcomes = rank_outcomes(rank_main, 2, tmp_path)
    assert all(o.exitcode == 1 for o in outcomes)  # none had to be killed
    assert "KeyboardInterrupt" in outcomes[1].error
    assert "KeyboardInterrupt" in outcomes[0].error or "DistributedError" in outcomes[0].error


@pytest.mark.parametrize("host", ["ddp", "plain"])
@pytest.mark.parametrize("interrupted", [0, 1], ids=["who waits", "who computes"])
def test_control_c_on_one_rank(tmp_path, host, interrupted):
    """SIGINT to one rank, rank 0 waiting for rank 1, ends both with the values before the step."""
    done = multiprocessing.get_context("fork").Event()

    def rank_main(rank):
        scene = Scene(host, rank)
        before = scene.values()
        impatient()
        try:
            if rank == interrupted:
                interrupt_soon()
            if rank == 1:
                done.wait()
            scene.backward()
        except (KeyboardInterrupt, RuntimeError) as ended:
            done.set()
            return type(ended).__name__, scene.values() == before

    ends = [o.result for o in rank_outcomes(rank_main, 2, tmp_path)]
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
