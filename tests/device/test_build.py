"""`build`, `defer` and `materialize` onto a device: exact, generators included."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import torchcreator as tc
from tests.build.same import tensors_of
from tests.device.marks import CUDA, NEEDS_CUDA

RANK, RANKS = 5, 64


class Initialised(nn.Module):
    """A parameter that ``initialise`` fills, and one that is drawn after it."""

    def __init__(self, initialise):
        super().__init__()
        self.first = nn.Parameter(torch.empty(24, 20))
        initialise(self.first)
        self.after = nn.Parameter(torch.randn(3, 4))


class OnTwo(nn.Module):
    """Drawn in part on the CPU, wherever it is put."""

    def __init__(self):
        super().__init__()
        self.here = nn.Parameter(torch.randn(5, 7))
        self.there = nn.Parameter(torch.randn(5, 7, device="cpu"))
        self.moved = nn.Parameter(torch.rand(9, device="cpu").to(self.here.device))
        self.register_buffer("order", torch.randperm(50))


class SeedsItself(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.w = nn.Parameter(torch.randn(6, 6))


class DrawsTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3)))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)


def encoder_layer():
    return nn.TransformerEncoderLayer(32, 4, 64)


FACTORIES = {
    "linear": lambda: nn.Linear(300, 200),
    "convolution and norm": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
    "recurrent": lambda: nn.LSTM(12, 10, num_layers=2),
    "embedding": lambda: nn.Embedding(1000, 33, padding_idx=0),
    "transformer": encoder_layer,
    "drawn twice": DrawsTwice,
    "on two devices": OnTwo,
    "seeds itself": SeedsItself,
    "half": lambda: nn.Linear(30, 20, dtype=torch.float16),
    **{
        name: lambda name=name: Initialised(getattr(nn.init, name))
        for name in ("trunc_normal_", "orthogonal_", "xavier_uniform_", "kaiming_normal_")
    },
    "sparse_": lambda: Initialised(lambda w: nn.init.sparse_(w, sparsity=0.5)),
}


def states(device):
    """Return the state of every default generator that a constructor may draw from."""
    found = [torch.get_rng_state()]
    return [*found, torch.cuda.get_rng_state(device)] if device.type == "cuda" else found


def plain(factory, device):
    torch.manual_seed(3)
    with device:
        model = factory()
    return model, states(device)


def assert_same(model, expected, *, without=()):
    ours, theirs = tensors_of(model), tensors_of(expected)
    assert list(ours) == list(theirs)
    for name in ours.keys() - set(without):
        assert ours[name].device == theirs[name].device, name
        assert torch.equal(ours[name], theirs[name]), name


def assert_states(found, expected):
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", FACTORIES)
def test_building_is_exact(device, name):
    """Values and generators are bit for bit those of plain construction on that device."""
    expected, after = plain(FACTORIES[name], device)
    torch.manual_seed(3)
    assert_same(tc.build(FACTORIES[name], device=device), expected)
    assert_states(states(device), after)


@pytest.mark.parametrize("name", FACTORIES)
def test_deferring_is_exact(device, name):
    """`defer` leaves all generators as they are; `materialize` does what `build` does."""
    expected, after = plain(FACTORIES[name], device)
    torch.manual_seed(3)
    before = states(device)
    model = tc.defer(FACTORIES[name], device=device)
    assert_states(states(device), before)
    assert_same(tc.materialize(model), expected)
    assert_states(states(device), after)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_refused_draw_moves_the_generator(device, name):
    """What a creator answers itself is not made, and all that follows is as if it were."""
    expected, after = plain(FACTORIES[name], device)
    refused = next(iter(dict(expected.named_parameters())))
    torch.manual_seed(3)
    with tc.creator_scope(tc.creators.where(tc.creators.meta(), name=refused)):
        model = tc.build(FACTORIES[name], device=device)
    assert dict(model.named_parameters())[refused].is_meta
    assert_same(model, expected, without=[refused])
    assert_states(states(device), after)


@pytest.mark.parametrize("name", FACTORIES)
def test_seeded_values_depend_on_seed_and_name(device, name):
    """A seed gives the same values again, others do not matter, and no generator is touched."""
    factory = FACTORIES[name]
    torch.manual_seed(3)
    before = states(device)
    first = tc.build(factory, device=device, seed=11)
    refused = next(iter(dict(first.named_parameters())))
    torch.rand(5, device=device)
    with tc.creator_scope(tc.creators.where(tc.creators.meta(), name=refused)):
        second = tc.build(factory, device=device, seed=11)
    assert_same(second, first, without=[refused])
    torch.manual_seed(3)
    tc.build(factory, device=device, seed=11)
    assert_states(states(device), before)


@pytest.mark.parametrize("name", FACTORIES)
def test_seeded_values_do_not_depend_on_how_the_device_was_named(device, name):
    """The argument of `build` and a context around it give the same values."""
    with device:
        expected = tc.build(FACTORIES[name], seed=11)
    assert_same(tc.build(FACTORIES[name], device=device, seed=11), expected)
    if device.type == "cpu":
        assert_same(tc.build(FACTORIES[name], seed=11), expected)


@pytest.fixture
def one_of_many(device):
    """Make this process one of 64 ranks that only pretend to be there."""
    dist.init_process_group("fake", store=FakeStore(), rank=RANK, world_size=RANKS)
    yield init_device_mesh(device.type, (RANKS,))
    dist.destroy_process_group()
    gc.collect()  # FSDP2 lists its modules for the whole process


@pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])
def test_a_part_of_a_fake_world(device, one_of_many, seed):
    """A rank's shards are cut from what the whole model would be, on the device of the mesh."""

    def factory():
        return nn.Sequential(nn.Linear(48, 200), nn.Linear(200, 130))

    torch.manual_seed(3)
    whole = tc.build(factory, device=device, seed=seed)
    torch.manual_seed(3)
    model = tc.defer(factory, device=device, seed=seed)
    for layer in model:
        fully_shard(layer, mesh=one_of_many)
    tc.materialize(fully_shard(model, mesh=one_of_many))
    for name, parameter in model.named_parameters():
        local, full = parameter.to_local(), whole.get_parameter(name)
        pieces = full.chunk(RANKS)
        expected = pieces[RANK] if len(pieces) > RANK else full[:0]
        assert local.device.type == device.type
        assert torch.equal(local, expected), name


def test_a_shard_goes_where_its_mesh_is(device, one_of_many):
    """What a constructor would have made on the CPU is drawn there, and its part moved."""

    def factory():
        return nn.Sequential(nn.Linear(48, 200))

    whole = tc.build(factory, seed=0)
    model = tc.defer(factory, seed=0)
    tc.materialize(fully_shard(model, mesh=one_of_many))
    for name, parameter in model.named_parameters():
        local = parameter.to_local()
        assert local.device.type == device.type
        assert torch.equal(local.cpu(), whole.get_parameter(name).chunk(RANKS)[RANK]), name


@pytest.mark.parametrize("device", [CUDA], indirect=True)
def test_values_are_ready_for_the_stream_that_asked(device):
    """In a stream of the caller's own, large seeded values are made on it, not beside it."""

    def factory():
        return nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(6)))

    expected = tc.build(factory, device=device, seed=0)
    sums = [p.double().sum().item() for p in expected.parameters()]
    stream = torch.cuda.Stream()
    for _ in range(5):
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            model = tc.build(factory, device=device, seed=0)
            found = [p.double().sum() for p in model.parameters()]
        stream.synchronize()
        assert [one.item() for one in found] == sums


@pytest.mark.parametrize("device", [CUDA], indirect=True)
def test_what_is_refused_takes_no_memory(device, record_property):
    """A model that creators refuse altogether costs a device no more than scratch."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with tc.creator_scope(tc.creators.meta()):
        tc.build(nn.Linear, 8192, 8192, device=device, seed=0)
    rise = (torch.cuda.max_memory_allocated() - before) / 2**20
    record_property("figure", f"{rise:.0f} of 256 MiB")
    assert rise < 1


FIRST_USE = """
import torch, torchcreator as tc
from torch import nn
model = tc.build(lambda: nn.Linear(2, 3, device="cuda:0"){cuda}, seed={seed})
assert model.weight.device == torch.device("cuda:0")
"""


class TestInAFreshProcess:
    pytestmark = NEEDS_CUDA

    @pytest.mark.parametrize("seed", [None, 0], ids=["exact", "seeded"])
    @pytest.mark.parametrize("cuda", ["", ".cuda(0)"], ids=["made there", "moved there"])
    def test_a_build_may_be_the_first_to_use_the_device(self, seed, cuda):
        """A constructor names a GPU before anything has started CUDA."""
        code = FIRST_USE.format(seed=seed, cuda=cuda)
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
