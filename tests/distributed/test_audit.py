"""What several ranks were to agree on and do not is told before a weight is written."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.distributed.scenarios import audit
from tests.support.ranks import scenes


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The results of each scenario on rank 0, which feeds 1, and rank 1, which feeds 2."""
    functions = [*audit.TOLD, *audit.LEFT_ALONE, audit.stepped_by_a_hook, audit.around_the_call]
    return scenes(functions, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", audit.TOLD, ids=lambda case: case.__name__)
def test_what_nobody_carries_out_is_told(played, case):
    """The first step raises on every rank, names the variable, and writes nothing."""
    for message, same in played[case.__name__]:
        assert audit.TOLD[case] in message
        assert len(message.splitlines()) == 3
        assert same


@pytest.mark.parametrize("case", audit.LEFT_ALONE, ids=lambda case: case.__name__)
def test_what_is_as_it_should_be_is_left_alone(played, case):
    """Means, values per rank and gradients set by hand are stepped as ever."""
    for rank, got in enumerate(played[case.__name__]):
        assert got == audit.LEFT_ALONE[case](rank)


def test_a_step_inside_the_backward(played):
    """However it was hooked, a step before the gradient is reduced is refused."""
    for results in played["stepped_by_a_hook"]:
        assert len(results) == 4
        for message, value in results:
            assert message.startswith("Variable 'w' is stepped by an optimizer inside the backward")
            assert value == 1.0


def test_a_backward_around_the_modules_call(played):
    """A gradient that came before its policy is refused once; the next one is right."""
    for (message, value), afterwards in played["around_the_call"]:
        assert message.startswith("The gradient of variable 'w' arrived without its aggregation.")
        assert value == 1.0
        assert afterwards == 1.0 - 3.0


def test_one_rank_alone_is_not_asked():
    """Without a process group every declaration is carried out by doing nothing."""
    model = nn.Module()
    model.w = tc.variable([1.0], aggregation="sum")
    (model.w * 2).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert model.w.item() == -1.0
