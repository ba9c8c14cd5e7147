"""Builds, scopes, draws, tuples, collections and loads in four threads, none of which notices.

``TORCHCREATOR_HAMMER_SECONDS=20 pytest tests/hardening/test_hammer.py`` is the full form.
"""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import torchcreator as tc
from torchcreator._chain.open_scopes import current
from torchcreator._torch.dispatch import dispatch_stack_depth, function_modes_active

SECONDS = float(os.environ.get("TORCHCREATOR_HAMMER_SECONDS", "3"))


class Model(nn.Module):
    """Has ties, tensors that no module knows, and a weight that is computed from integers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(300, 300)  # large enough for a thread of its own
        self.head = nn.Linear(300, 300)
        self.head.weight = self.head.weight
        self.masks = [torch.ones(3)]
        self.loose = nn.Parameter(torch.ones(2))
        self.held = {self.loose: "loose"}
        self.register_buffer("scale", torch.arange(1, 9) / 7)


class Doubles(nn.Module):
    """Makes parameters under two default dtypes, each large enough for a thread of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(300, 300) for _ in range(3))
        torch.set_default_dtype(torch.float64)
        try:
            self.second = nn.ModuleList(nn.Linear(300, 300) for _ in range(3))
            self.register_buffer("scale", torch.arange(1, 90_000) / 7)
        finally:
            torch.set_default_dtype(torch.float32)


def own(next_creator, **kwargs):
    """Answer with a parameter of its own where the constructor holds the old one elsewhere."""
    if kwargs["name"] == "loose":
        return nn.Parameter(torch.zeros(2))
    return next_creator(**kwargs)


def sevens(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.full(kwargs["shape"], 7.0)})


def builds():
    """Build with a seed, plain and through a creator that answers itself."""
    expected = tc.build(Model, seed=3).state_dict()

    def once():
        model = tc.build(Model, seed=3)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
        assert model.masks[0].tolist() == [1.0, 1.0, 1.0]
        with tc.creator_scope(own):
            model = tc.materialize(tc.defer(Model, seed=3))
        assert model.held == {model.loose: "loose"}
        assert torch.equal(model.embedding.weight, expected["embedding.weight"])

    return once


def scopes():
    """Set values in scopes, tie what came from outside, and ask for names."""
    outside = nn.Linear(4, 4, device="meta").to_empty(device="cpu")
    outside.weight.data.fill_(1.0)
    ledger = tc.creators.Ledger()

    def once():
        ledger.clear()
        with tc.creator_scope(sevens), tc.creator_scope(tc.creators.record(ledger)):
            model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
            model[1].weight = outside.weight
        assert outside.weight.eq(1.0).all()
        assert model[0].bias.eq(7.0).all()
        assert model[1].weight is outside.weight
        assert ledger.names == ["0.weight", "0.bias", "1.weight", "1.bias"]

    return once


def draws_and_loads():
    """Draw from the default generator, copy, save and load modules."""
    alone = torch.Generator()
    alone.set_state(torch.get_rng_state())
    with tc.creator_scope(tc.creators.constrain("non_neg")):
        original = nn.LayerNorm(8)

    def once():
        assert torch.equal(torch.rand(1000), torch.rand(1000, generator=alone))
        saved = io.BytesIO()
        torch.save(original.state_dict(), saved)
        saved.seek(0)
        for model in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            model.load_state_dict(torch.load(saved), assign=True)
            saved.seek(0)
            assert repr(tc.spec_of(model.weight).constraint) == "NonNeg()"

    return once


def tuples_and_collections():
    """Make tuples of everything that others hold, one by one, and collect garbage."""
    model = nn.Sequential(*(nn.LayerNorm(2) for _ in range(50)))

    def once():
        assert len(tuple(number for number in range(20_000))) == 20_000
        assert len(tuple(p for p in model.parameters() for _ in range(20))) == 2000
        assert len(tuple(type(p) for p in model.parameters() for _ in range(20))) == 2000
        assert len(tuple(m for m in model.modules() for _ in range(20))) == 1020
        gc.collect(0)

    return once


def process():
    """Return what all threads share, and what this one has open."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 50_000),
        "threads of torch": torch.get_num_threads(),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "modes": (dispatch_stack_depth(), function_modes_active()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "scope": current.get(),
    }


@pytest.mark.timeout(120 + 2 * SECONDS)
def test_four_threads_do_not_notice_each_other():
    """Each thread finds what it would find alone, and the process is as it was found."""
    before, raised, rounds = process(), [], {}
    here = sys.getswitchinterval()
    stop = time.monotonic() + SECONDS
    start = threading.Barrier(4)

    def repeat(prepare):
        fresh = process()
        once = prepare()
        start.wait(60)
        try:
            while time.monotonic() < stop and not raised:
                once()
                rounds[prepare.__name__] = rounds.get(prepare.__name__, 0) + 1
                assert gc.isenabled()
            assert {**process(), "default dtype": None} == {**fresh, "default dtype": None}
        except BaseException as error:
            raised.append(error)

    jobs = (builds, scopes, draws_and_loads, tuples_and_collections)
    threads = [threading.Thread(target=repeat, args=(job,)) for job in jobs]
    sys.setswitchinterval(1e-4)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(here)
    if raised:
        raise raised[0]
    assert set(rounds) == {job.__name__ for job in jobs}
    assert process() == before


@pytest.mark.parametrize("at_once", [1, 2], ids=["alone", "two at once"])
def test_builds_in_threads_leave_the_default_dtype(at_once):
    """The threads that make values for a build set no default dtype, however they take turns."""
    assert torch.get_default_dtype() is torch.float32
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    model, raised = tc.defer(Doubles, seed=0), []

    def fill():
        try:
            for _ in range(5):
                made = tc.materialize(copy.deepcopy(model))
                assert made.second[2].weight.dtype is torch.float64
                assert made.scale.dtype is torch.float64
        except BaseException as error:
            raised.append(error)

    fillers = [threading.Thread(target=fill) for _ in range(at_once)]
    try:
        for filler in fillers:
            filler.start()
        while any(filler.is_alive() for filler in fillers):
            assert torch.get_default_dtype() is torch.float32
        for filler in fillers:
            filler.join()
    finally:
        torch.set_num_threads(threads)
    assert raised == []


def test_seeded_builds_leave_the_default_generator():
    """Seeded builds, one after the other or in threads, draw nothing from the default generator."""
    before = torch.get_rng_state()
    threads = [
        threading.Thread(target=lambda: [tc.build(Model, seed=0) for _ in range(3)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), before)


def test_models_are_compiled_after_builds_that_overlapped():
    """What torch tells the whole process while a model is recorded is not left told."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        first_in.set()
        second_in.wait(20)
        return nn.Linear(2, 2)

    def second():
        second_in.set()
        first_out.wait(20)
        return nn.Linear(2, 2)

    def build_first():
        tc.build(first)
        first_out.set()

    def build_second():
        first_in.wait(20)
        tc.build(second)

    with ThreadPoolExecutor(2) as pool:
        for building in [pool.submit(build_first), pool.submit(build_second)]:
            building.result()
    assert first_out.is_set()
    torch.compiler.reset()
    counter = CompileCounter()
    torch.compile(nn.Linear(2, 2), backend=counter)(torch.ones(1, 2))
    assert counter.frame_count == 1
