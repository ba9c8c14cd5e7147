"""Norms and scalers, which take all ranks for equal, do not draw shared values apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.distributed.scenarios.equal_ranks import HOSTS, SCENARIOS
from tests.support.ranks import scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0 and rank 1."""
    return scenes(SCENARIOS, 2, tmp_path_factory.mktemp("ranks"))


TOTALS = {2.0: math.sqrt(9 + 25 + 1 + 4), 1.0: 3 + 5 + 1 + 2, math.inf: 5.0}


@pytest.mark.parametrize("norm_type", TOTALS)
@pytest.mark.parametrize("host", HOSTS)
def test_one_norm_on_all_ranks(played, host, norm_type):
    """Shared gradients count once, each rank's own ones too, and all are scaled alike."""
    want = TOTALS[norm_type]
    for rank, results in enumerate(played["clipped"]):
        total, shared, own = results[host, norm_type]
        assert total == pytest.approx(want)
        assert shared == pytest.approx([3 / want, 5 / want], rel=1e-5)
        assert own == pytest.approx([(rank + 1) / want], rel=1e-5)


def test_a_group_counts_once(played):
    """A variable that two ranks share in a group of their own is one variable."""
    assert played["groups"] == pytest.approx([3.0, 3.0])


def test_torchs_own_clip_is_told_and_does_no_harm(played):
    """Gradients that each rank scaled by its own norm are averaged, with a warning."""
    for results in played["clipped_by_torch"]:
        for told in results.values():
            (message,) = told
            assert message.startswith("The gradient of 'shared' differed between ranks")
            assert "clip_grad_norm_(model, max_norm)" in message


def test_a_scaler_skips_on_all_ranks_or_on_none(played):
    """An infinity in one rank's own gradient makes all skip the step, and the scale stays one."""
    for results in played["scaled"]:
        for skipped, stepped in results.values():
            assert skipped == ([1.0, 1.0], [1.0], 2.0)
            assert stepped == ([-2.0, -4.0], [0.0], 2.0)


def test_a_scaler_skips_shards_on_all_ranks_or_on_none(played):
    """An infinity in one rank's own gradient is seen in the shards of all, and the scale is one."""
    assert played["scaled_in_shards"] == [[([1.0, 1.0], 2.0), ([-2.0, -4.0], 2.0)]] * 2


def test_what_is_written_alike_is_left_alone(played):
    """Gradients that all ranks scale by one factor are neither averaged nor warned of."""
    assert played["all_equal"] == [([], [-0.5, -1.5])] * 2


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("foreach", [None, True, False], ids=str)
def test_on_one_rank_it_is_torchs(norm_type, foreach):
    """Without other ranks the norm and the gradients are those of torch's function."""
    models = [nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model(torch.ones(2, 3)).square().sum().backward()
    ours = tc.distributed.clip_grad_norm_(models[0], 0.1, norm_type, foreach=foreach)
    theirs = nn.utils.clip_grad_norm_(models[1].parameters(), 0.1, norm_type, foreach=foreach)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=0)


def test_a_norm_that_is_not_finite_can_be_an_error():
    """As in torch, on demand."""
    model = nn.Linear(1, 1)
    model(torch.full((1, 1), math.inf)).backward()
    with pytest.raises(RuntimeError, match="non-finite"):
        tc.distributed.clip_grad_norm_(model, 1.0, error_if_nonfinite=True)
