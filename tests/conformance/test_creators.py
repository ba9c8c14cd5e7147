"""Each ready-made creator alone, in all three moments, and any two of them in both orders."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

import torchcreator as tc
from torchcreator import _errors, build, creators
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._torch.fakes import is_fake
from torchcreator.testing import assert_creator_conforms


class Model(nn.Module):
    """Stock modules, and a variable."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.decoder = nn.Linear(4, 4, bias=False)
        self.gain = tc.variable(torch.full((4,), 2.0), name="gain")


class Tied(Model):
    """The same with a tie."""

    def __init__(self):
        super().__init__()
        self.decoder.weight = self.encoder[0].weight


class Variables(nn.Module):
    """Variables alone, of which two have one value."""

    def __init__(self):
        super().__init__()
        self.gain = tc.variable(torch.full((4,), 2.0), name="gain")
        self.table = tc.variable(nn.init.normal_, name="table", shape=(4, 2))
        self.steps = tc.variable(lambda: torch.zeros(4), name="steps")


@pytest.fixture(scope="module")
def mesh():
    """Return a mesh of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return files with the value 5 for everything in either model, by the model."""
    paths = {}
    for model in (Tied, Variables):
        paths[model] = tmp_path_factory.mktemp("checkpoint") / f"{model.__name__}.pt"
        state = {name: torch.full_like(v, 5) for name, v in model().state_dict().items()}
        torch.save(state, paths[model])
    return paths


def spec(parameter):
    return tc.spec_of(parameter)


def local(parameter):
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def holds(parameter, value):
    """Return whether a parameter has a value, where it has one at all."""
    nothing = parameter.is_meta or is_fake(local(parameter))
    return nothing or bool((local(parameter) == value).all())


CREATORS = {
    "on": lambda _: creators.on("cpu"),
    "meta": lambda _: creators.meta(),
    "fake": lambda _: creators.fake(),
    "cast": lambda _: creators.cast(torch.float64),
    "freeze": lambda _: creators.freeze(),
    "declare": lambda _: creators.declare(trainable=False, tags={"seen": True}),
    "initialize": lambda _: creators.initialize(lambda w: w.fill_(3)),
    "constrain": lambda _: creators.constrain("non_neg"),
    "aggregate": lambda _: creators.aggregate("sum"),
    "local": lambda _: creators.local(),
    "mirrored": lambda _: creators.mirrored(),
    "sharded": lambda have: creators.sharded(have["mesh"], [Shard(0)]),
    "from_checkpoint": lambda have: creators.from_checkpoint(have["checkpoint"][have["model"]]),
    "share": lambda _: creators.share(),
    "optimizer": lambda _: creators.optimizer(weight_decay=0.0),
    "record": lambda have: creators.record(have["ledger"]),
    "progress": lambda _: creators.progress(),
    "where": lambda _: creators.where(creators.freeze(), name="*gain"),
}
"""Every creator that lets variables be made; forbid() is with the tests of its family."""

CLAIMS = {
    "on": lambda p: p.device.type == "cpu",
    "meta": lambda p: p.is_meta,
    "fake": lambda p: is_fake(local(p)),
    "cast": lambda p: p.dtype == torch.float64,
    "freeze": lambda p: not p.requires_grad,
    "declare": lambda p: not p.requires_grad and spec(p).tags["seen"] is True,
    "initialize": lambda p: holds(p, 3),
    "constrain": lambda p: spec(p).constraint == tc.constraints.NonNeg(),
    "aggregate": lambda p: spec(p).aggregation is VariableAggregation.SUM,
    "local": lambda p: spec(p).synchronization is VariableSynchronization.NONE,
    "mirrored": lambda p: spec(p).synchronization is VariableSynchronization.ON_WRITE,
    "sharded": lambda p: isinstance(p, DTensor),
    "from_checkpoint": lambda p: holds(p, 5),
    "share": lambda p: True,
    "optimizer": lambda p: spec(p).tags["optimizer"] == {"weight_decay": 0.0},
    "record": lambda p: True,
    "progress": lambda p: True,
    "where": lambda p: not p.requires_grad or p.dim() == 2 or spec(p).name != "gain",
}
"""What holds for every parameter that a creator made."""

LAST_WORD = [{"on", "meta"}, {"initialize", "from_checkpoint"}, {"local", "mirrored"}]
"""Pairs that decide the same thing, so the outer one has the last word: docs/guides/creators.md."""


def overruled(inner, outer):
    """Return the one of two creators whose promise the other one replaces."""
    if {inner, outer} == {"fake", "meta"}:
        return {"meta"}
    return {inner} if {inner, outer} in LAST_WORD else set()


def broken(model, names):
    """Return the promises that do not hold, with the parameters."""
    return [
        (name, full_name)
        for name in names
        for full_name, parameter in model.named_parameters()
        if not CLAIMS[name](parameter)
    ]


def check_together(inner, outer, have, make):
    """Make a model inside two creators, and hold both to what they promise."""
    with tc.creator_scope(CREATORS[outer](have)), tc.creator_scope(CREATORS[inner](have)):
        model = make()
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())
    assert broken(model, {inner, outer} - overruled(inner, outer)) == []
    if "record" in (inner, outer):
        names = [name for name, _ in model.named_parameters()]
        assert sorted(have["ledger"].names) == sorted(names)
    return model


@pytest.fixture
def have(mesh, checkpoint):
    """Return what some creators need."""
    return {"mesh": mesh, "checkpoint": checkpoint, "ledger": creators.Ledger(), "model": Tied}


CASTS_TOO_EARLY = ("cast", "from_checkpoint")
PAIRS = [pair for pair in itertools.permutations(CREATORS, 2) if pair != CASTS_TOO_EARLY]
LATER = {"sharded", "from_checkpoint", "share"}
"""Creators that a module of several parts needs a build for: they need values, or full names."""
IN_A_SCOPE = [pair for pair in PAIRS if not LATER & set(pair)]


REFUSES = {
    "sharded": _errors.VariableValueError,
    "from_checkpoint": _errors.CheckpointError,
    "share": _errors.VariableValueError,
}
"""Those that may decline: no value or dimension to split, no such name, another shape."""


@pytest.mark.parametrize("name", CREATORS)
def test_each_conforms(name, have):
    """Each creator serves in every situation, or declines with an error of its own."""
    assert_creator_conforms(CREATORS[name](have), refuses=REFUSES.get(name, ()))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_any_two_compose_in_a_build(pair, have):
    """What two creators promise holds in both orders, in a build; ties stay ties."""
    model = check_together(*pair, have, lambda: build(Tied))
    assert model.decoder.weight is model.encoder[0].weight


@pytest.mark.parametrize("name", CREATORS)
def test_each_serves_a_finished_model(name, have):
    """What a creator promises holds for a model that comes from somewhere; ties stay ties."""
    model = Tied()
    with tc.creator_scope(CREATORS[name](have)):
        tc.recreate(model)
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())
    assert broken(model, {name}) == []
    assert model.decoder.weight is model.encoder[0].weight
    if name == "record":
        assert have["ledger"].names == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("pair", IN_A_SCOPE, ids="-".join)
def test_any_two_compose_around_stock_modules(pair, have):
    """What two creators promise holds in both orders, for stock modules in a plain scope."""
    check_together(*pair, have, Model)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_any_two_compose_around_variables(pair, have):
    """What two creators promise holds in both orders, for variables in a plain scope."""
    check_together(*pair, {**have, "model": Variables}, Variables)


def test_a_cast_inside_a_checkpoint_says_what_the_files_have(have):
    """The one order of two that is refused: the cast came first, so the files do not fit."""
    inner, outer = CASTS_TOO_EARLY
    with pytest.raises(RuntimeError, match=r"dtype torch.float64, in the file torch.float32"):
        check_together(inner, outer, have, lambda: build(Tied))


@pytest.mark.parametrize("other", CREATORS)
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_nothing_is_made_where_that_is_forbidden(order, other, have):
    """``forbid`` inside or outside any other creator lets no variable be made."""
    scopes = [creators.forbid(), CREATORS[other](have)]
    outer, inner = scopes[:: 1 if order == "outside" else -1]
    with (
        tc.creator_scope(outer),
        tc.creator_scope(inner),
        pytest.raises(RuntimeError, match=r"was about to be made inside forbid\(\)"),
    ):
        tc.variable([0.0, 1.0], name="gain", dtype=torch.float32)


def test_the_list_of_creators_is_complete():
    """Every creator that is public is held to its promise here."""
    others = {"Entry", "Ledger", "elementwise", "forbid"}
    assert set(CREATORS) == set(CLAIMS) == set(creators.__all__) - others
