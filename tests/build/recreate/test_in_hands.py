"""Who else has a parameter: what cannot be changed any more is told, and nothing is changed."""

from __future__ import annotations

import collections
import functools
import gc

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchcreator as tc
from tests.build.recreate.models import recreated, snapshot, trained
from tests.build.test_creators import Tied
from tests.support.torchscript import script

CHANGES = {
    "dtype": tc.creators.cast(torch.float64),
    "device": tc.creators.on("meta"),
    "parameter": lambda next_creator, **kwargs: nn.Parameter(torch.zeros(kwargs["shape"])),
}


WORDS = {
    "dtype": "converted from torch.float32 to torch.float64",
    "device": "moved from cpu to meta",
    "parameter": "replaced",
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_optimizer_that_has_what_would_be_another_one(what):
    """It is named, with the variable; nothing is changed; without it all goes well."""
    model = trained(Tied())
    optimizer = torch.optim.Adam([{"params": [model.norm.weight]}, {"params": [model.head.bias]}])
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    before = snapshot(model)
    with (
        tc.creator_scope(CHANGES[what]),
        pytest.raises(tc.BuildError, match=f"'norm.weight' would be {WORDS[what]}.*Adam"),
    ):
        tc.recreate(model)
    assert snapshot(model) == before
    gc.disable()  # they refer to each other
    try:
        del optimizer, schedule
        with tc.creator_scope(CHANGES[what]):
            tc.recreate(model)
    finally:
        gc.enable()


def test_an_optimizer_that_gc_freeze_has_put_out_of_sight():
    """It is not seen, as the documents say, and is once ``gc.unfreeze`` was called."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    gc.freeze()
    try:
        recreated(model, CHANGES["dtype"])
    finally:
        gc.unfreeze()
    assert optimizer.param_groups[0]["params"][0].dtype == torch.float64
    back = tc.creators.cast(torch.float32)
    with tc.creator_scope(back), pytest.raises(tc.BuildError, match=r"'weight' would be .*SGD"):
        tc.recreate(model)


def test_an_optimizer_of_other_parameters_does_not_matter():
    """Only what would be another one counts."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=1.0)
    with tc.creator_scope(tc.creators.cast(torch.float64, name="0.*")):
        tc.recreate(model)
    assert model[0].weight.dtype == torch.float64
    assert optimizer.param_groups[0]["params"][0] is model[1].weight


def test_a_tie_to_the_outside_is_not_cut():
    """A parameter that another module has too cannot be replaced in one of them."""
    model = Tied()
    before = snapshot(model)
    with (
        tc.creator_scope(CHANGES["parameter"]),
        pytest.raises(tc.BuildError, match=r"'weight', which a Linear outside.*'embed\.weight'"),
    ):
        tc.recreate(model.embed)
    assert snapshot(model) == before
    with tc.creator_scope(CHANGES["dtype"]):
        tc.recreate(model.embed)
    assert model.head.weight is model.embed.weight
    model.circle = [model]  # what nobody has any more does not count
    embed = model.embed
    del model
    with tc.creator_scope(CHANGES["parameter"]):
        tc.recreate(embed)


class Slots:
    __slots__ = ("weight",)


def in_slots(weight):
    slots = Slots()
    slots.weight = weight
    return slots


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (lambda w: functools.partial(torch.mul, w), "partial"),
        (lambda w: functools.partial(torch.mul, other=w), None),
        (in_slots, "Slots"),
        (lambda w: collections.deque([w]), "deque"),
        (lambda w: [(w, 1)], None),
    ],
    ids=["partial", "keywords of a partial", "slots", "deque", "tuple in a list"],
)
def test_what_cannot_be_exchanged_is_told(kind, word):
    """A parameter of one's own is refused where the old one would stay somewhere in the model."""
    model = nn.Linear(2, 2)
    model.held = kind(model.weight)
    before = snapshot(model)
    with tc.creator_scope(CHANGES["parameter"]):
        if word is None:
            old = model.weight
            tc.recreate(model)
            assert all(value is not old for value in gc.get_referents(model.held))
        else:
            with pytest.raises(
                tc.BuildError, match=f"for 'weight', which the model has in a {word}"
            ):
                tc.recreate(model)
            assert snapshot(model) == before


def test_a_scripted_model_takes_what_it_keeps():
    """Its parameters live in C++, where nothing is declared: what it would not keep is refused."""
    model = script(nn.Sequential(nn.Linear(2, 2)))
    with tc.creator_scope(
        tc.creators.freeze(), tc.creators.cast(torch.float64), tc.creators.initialize(nn.init.ones_)
    ):
        tc.recreate(model)
    assert [(p.dtype, p.requires_grad) for p in model.parameters()] == [(torch.float64, False)] * 2
    assert model(torch.ones(1, 2, dtype=torch.float64)).tolist() == [[3.0, 3.0]]
    for creator in (tc.creators.constrain("non_neg"), tc.creators.local(), CHANGES["parameter"]):
        with (
            tc.creator_scope(creator),
            pytest.raises(tc.BuildError, match=r"'0\.weight' is in a RecursiveScriptModule"),
        ):
            tc.recreate(model)


def test_what_viewed_the_old_memory_is_told():
    """A tensor that shares a parameter's memory follows a new value, and a new dtype not."""
    model = nn.Module()
    model.whole = nn.Parameter(torch.zeros(4))
    model.part = nn.Parameter(model.whole.detach()[2:])
    model.apart = nn.Parameter(torch.zeros(2))
    with tc.creator_scope(tc.creators.initialize(nn.init.ones_, name="whole")):
        tc.recreate(model)
    assert model.part.tolist() == [1.0, 1.0]
    with (
        tc.creator_scope(tc.creators.cast(torch.float64, name=["whole", "apart"])),
        pytest.warns(UserWarning, match="'whole' has other memory now, and 'part' still looks"),
    ):
        tc.recreate(model)


@pytest.fixture
def alone():
    """A process group of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


HOSTS = {
    "DDP": lambda model: DistributedDataParallel(model),
    "data_parallel": lambda model: tc.distributed.data_parallel(model),
    "aggregate_gradients": lambda model: tc.distributed.aggregate_gradients(model),
}


HELD = {
    "trainable": tc.creators.freeze(),
    "aggregation": tc.creators.aggregate("sum"),
    "synchronization": tc.creators.local(),
    "dtype": CHANGES["dtype"],
    "parameter": CHANGES["parameter"],
}


@pytest.mark.parametrize("what", HELD)
@pytest.mark.parametrize("host", HOSTS)
def test_what_a_host_has_set_up_for_is_not_changed(alone, host, what):
    """It is said who has which parameter, and nothing is changed."""
    model = nn.Linear(2, 2)
    wrapped = HOSTS[host](model)
    before = snapshot(model)
    with (
        tc.creator_scope(HELD[what]),
        pytest.raises(tc.DistributedError, match=f"the {what} of 'weight', which .* reduces"),
    ):
        tc.recreate(model)
    assert snapshot(model) == before
    del wrapped


@pytest.mark.parametrize("host", HOSTS)
def test_what_a_host_does_not_care_about_may_be_changed(alone, host):
    """Constraints, tags and values of a wrapped model, and it goes on training."""
    model = nn.Linear(2, 2)
    wrapped = HOSTS[host](model)
    change = tc.creators.declare(constraint="non_neg", tags={"a": 1})
    with tc.creator_scope(change, tc.creators.initialize(nn.init.ones_)):
        tc.recreate(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    (model if host == "aggregate_gradients" else wrapped)(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert model.weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_gathered_model_is_refused(alone):
    """While FSDP2 has gathered it, what would be written is lost; its shards are served."""
    from torch.distributed.device_mesh import init_device_mesh

    model = fully_shard(nn.Sequential(nn.Linear(2, 2)), mesh=init_device_mesh("cpu", (1,)))
    model.unshard()
    with (
        tc.creator_scope(tc.creators.freeze()),
        pytest.raises(tc.BuildError, match="that fully_shard has sharded, and whose parameters"),
    ):
        tc.recreate(model)
    model.reshard()
    with tc.creator_scope(tc.creators.constrain("non_neg")):
        tc.recreate(model)
    assert len(list(tc.named_specs(model))) == 2
