"""Fake values: right in form, cheap, writable, and the same every time."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator.testing import FakeCreator, _pattern
from torchcreator.testing._pattern import BLOCK, patterned

LARGE = (600, 300)  # large enough to be mapped
FLOATING = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]


def made(make):
    with tc.creator_scope(FakeCreator()):
        return make()


@pytest.fixture(params=["mapped", "copied"])
def memory(request, monkeypatch):
    """Run with and without the file in memory that only Linux has."""
    if request.param == "mapped" and sys.platform != "linux":
        pytest.skip("there is no memfd")
    monkeypatch.setattr(_pattern, "_HAS_FILES", request.param == "mapped")


@pytest.mark.parametrize("shape", [(3, 2), LARGE, (4, 3, 5, 5), (7,), (), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_a_fake_has_the_form_that_was_asked_for(memory, shape, dtype):
    """Shape, dtype and layout are those of a real parameter, and every element is finite."""
    fake = made(lambda: tc.variable(nn.init.zeros_, shape=shape, dtype=dtype, name="w"))
    assert type(fake) is nn.Parameter
    assert (fake.shape, fake.dtype) == (shape, dtype)
    assert fake.is_contiguous()
    assert fake.isfinite().all()
    assert fake.requires_grad


def test_a_fake_is_the_same_every_time(memory):
    """Name and shape decide its values; the generator is neither asked nor moved."""
    before = torch.get_rng_state()
    first, second = made(lambda: nn.Linear(300, 600)), made(lambda: nn.Linear(300, 600))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert torch.equal(before, torch.get_rng_state())


def test_fakes_of_other_names_differ(memory):
    """Two names give two values, so that parameters that were exchanged are told apart."""
    values = [
        made(lambda name=name: tc.variable(nn.init.zeros_, shape=LARGE, name=name))
        for name in ("query", "key", "value")
    ]
    assert not torch.equal(values[0], values[1])
    assert not torch.equal(values[1], values[2])


def test_the_rows_of_a_fake_differ(memory):
    """No two rows are equal, at the widths that models have: an embedding tells tokens apart."""
    for width in (64, 768, 1024):
        fake = made(lambda width=width: nn.Embedding(500, width)).weight
        assert len(fake.unique(dim=0)) == 500


def test_mapped_and_copied_fakes_are_equal(monkeypatch):
    """Where there is no file in memory the values are the same, from memory of their own."""
    mapped = patterned(3 * BLOCK + 5, torch.float32, 12345)
    monkeypatch.setattr(_pattern, "_HAS_FILES", False)
    assert torch.equal(mapped, patterned(3 * BLOCK + 5, torch.float32, 12345))


def test_values_are_spread_as_models_initialise_theirs():
    """Matrices and biases have mean 0 and standard deviation 0.02; scales are around 1."""
    layer = made(lambda: nn.Sequential(nn.Linear(400, 400), nn.LayerNorm(400)))
    assert layer[0].weight.mean().abs() < 1e-4
    assert layer[0].weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert layer[0].bias.abs().max() < 0.04
    assert (layer[1].weight - 1).abs().max() < 0.04
    assert layer[1].bias.abs().max() < 0.04


def test_what_is_written_to_one_stays_there(memory):
    """Fakes share memory until they are written to, and never show each other's values."""
    first, second = made(lambda: nn.Linear(300, 600)), made(lambda: nn.Linear(300, 600))
    kept = second.weight.detach().clone()
    with torch.no_grad():
        first.weight.zero_()
    assert torch.equal(second.weight, kept)
    assert torch.equal(made(lambda: nn.Linear(300, 600)).weight, kept)


def test_a_fake_model_trains(memory):
    """Every parameter gets a gradient, and the loss falls."""
    model = made(lambda: nn.Sequential(nn.Linear(300, 600), nn.Tanh(), nn.Linear(600, 5)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.linspace(-1, 1, 2400).view(8, 300), torch.arange(8) % 5
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_fake_model_is_copied_saved_and_loaded(memory, tmp_path):
    """deepcopy, save, load and ``load_state_dict`` take a fake for what it seems to be."""
    model = made(lambda: nn.Linear(300, 600))
    copied = copy.deepcopy(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    real = nn.Linear(300, 600)
    real.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert torch.equal(copied.weight, model.weight)
    assert torch.equal(real.weight, model.weight)
    model.load_state_dict(nn.Linear(300, 600).state_dict())
    assert not torch.equal(copied.weight, model.weight)


def test_the_module_s_own_initialisation_is_left_out():
    """What a constructor writes does not reach a fake, a tie stays a tie, a buffer stays real."""
    transformer = made(lambda: nn.TransformerEncoderLayer(64, 4, 128))
    assert transformer.linear1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    norm = made(lambda: nn.BatchNorm1d(4))
    assert norm.running_var.tolist() == [1.0] * 4


def test_a_value_in_hand_is_kept():
    """A number, a tensor and what has no known shape are not replaced, and not counted."""
    fakes = FakeCreator()
    with tc.creator_scope(fakes):
        assert tc.variable(0.5).item() == 0.5
        assert tc.variable(torch.ones(2), shape=(2,)).tolist() == [1.0, 1.0]
        assert tc.variable(lambda: torch.ones(3)).tolist() == [1.0, 1.0, 1.0]
        nn.LazyLinear(2)
        assert fakes.made == 1  # the lazy layer's bias has its shape
        nn.Linear(2, 2)
    assert fakes.made == 3


def test_other_kinds_are_zeros():
    """Integers and bools, which have no spread, are zeros; on meta there is no value at all."""
    counter = made(lambda: tc.variable(nn.init.ones_, shape=(3,), dtype=torch.int64))
    assert counter.tolist() == [0, 0, 0]
    layer = made(lambda: nn.Linear(2, 3, device="meta"))
    assert layer.weight.is_meta


def test_creators_further_out_have_the_last_word():
    """A cast further out gives fakes of its dtype."""
    with tc.creator_scope(tc.creators.cast(torch.bfloat16)), tc.creator_scope(FakeCreator()):
        layer = nn.Linear(300, 600)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.float().std().item() == pytest.approx(0.02, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_fakes_cost_no_memory():
    """Twenty fakes of 40 MB take less memory than one of them, until they are written to."""

    def private():
        with open("/proc/self/smaps_rollup") as lines:  # noqa: PTH123  not a file on a disk
            return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

    patterned(10_000_000, torch.float32, 0)
    before = private()
    fakes = [made(lambda: nn.Linear(4000, 2500, bias=False)) for _ in range(20)]
    assert sum(fake.weight[::100].sum().item() for fake in fakes) is not None
    assert private() - before < 40_000


def test_it_is_written_as_it_is_made():
    """Reports and errors name it so."""
    assert repr(FakeCreator()) == "FakeCreator()"
