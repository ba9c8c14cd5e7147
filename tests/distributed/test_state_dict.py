"""Per-rank values in checkpoints: of this world, of another one, and without a world at all."""

from __future__ import annotations

import pytest
import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import torchcreator as tc
from tests.distributed.counters import READ, Counters
from tests.support.ranks import run_ranks
from torchcreator.distributed import (
    load_state_dict,
    state_dict,
)


@pytest.mark.parametrize("readers", [1, 3])
def test_another_number_of_ranks_loads_a_distributed_checkpoint(tmp_path, readers):
    """Saved by two ranks, a sum is read again by one or three, experts by those that have one."""

    def save(rank):
        dcp.save(state_dict(Counters(rank)), checkpoint_id=tmp_path / "saved", no_dist=False)

    def load(rank):
        model = Counters(10)
        state = state_dict(model)
        planner = dcp.DefaultLoadPlanner(allow_partial_load=True)
        dcp.load(state, checkpoint_id=tmp_path / "saved", planner=planner)
        load_state_dict(model, state)
        return model.readings(), model.expert.item(), model.count.item()

    run_ranks(save, 2, tmp_path)
    shares = {1: (3,), 3: (1, 1, 1)}[readers]
    for rank, (read, expert, count) in enumerate(run_ranks(load, readers, tmp_path)):
        assert read == READ
        assert expert == (rank + 1.0 if rank < 2 else 11.0)
        assert count == shares[rank]


def test_a_checkpoint_without_this_rank_is_named():
    """A per-rank value that was never saved for this rank is an error, unless strict is off."""
    model = Counters(0)
    state = {**model.state_dict(), "expert@1": torch.tensor([5.0])}
    del state["expert"]
    with pytest.raises(
        tc.TorchCreatorError, match=r"(?s)'expert' for rank 0: it has expert@1.*strict=False"
    ):
        load_state_dict(model, state)
    load_state_dict(model, state, strict=False)
    assert model.expert.item() == 1.0


def test_a_plain_state_dict_loads_too():
    """A checkpoint that knows nothing of ranks is loaded as it is."""
    model, other = Counters(0), Counters(3)
    load_state_dict(model, other.state_dict())
    assert model.numbers() == other.numbers()


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_a_wrappers_prefix_that_is_missing_is_named(strict):
    """Names that differ by nothing but a wrapper's prefix are told, and not loaded as nothing."""
    wrapped = torch.nn.Module()
    wrapped.module = Counters(0)
    with pytest.raises(ValueError, match=r"(?s)lack the model's 'module\.'.*model\.module, state"):
        load_state_dict(wrapped, Counters(3).state_dict(), strict=strict)
    wrapped_state = {f"module.{name}": v for name, v in Counters(3).state_dict().items()}
    with pytest.raises(
        ValueError, match=r"(?s)begin with 'module\.', and the model's do not.*remov"
    ):
        load_state_dict(wrapped.module, wrapped_state, strict=strict)
    load_state_dict(wrapped, wrapped_state)
    assert wrapped.module.numbers() == Counters(3).numbers()


def test_other_names_are_torchs_to_tell():
    """What is missing and unexpected otherwise, torch lists."""
    with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        load_state_dict(torch.nn.Linear(1, 1), {"other.weight": torch.ones(1, 1)})


def test_checkpointing_changes_no_key():
    """A part that is computed again in the backward has the keys that it has without."""
    model = torch.nn.Sequential(checkpoint_wrapper(Counters(0)))
    state = state_dict(model)
    assert list(state) == list(state_dict(torch.nn.Sequential(Counters(0))))
    load_state_dict(model, {**state, "0.expert@0": torch.tensor([5.0])})
    assert model[0].expert.item() == 5.0
