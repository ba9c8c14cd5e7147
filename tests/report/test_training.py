"""What training takes, held against torch's optimizers and FSDP2's way to split."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator.report._training import STATES, in_words

CLASSES = {name.lower(): value for name, value in vars(torch.optim).items() if name[0].isupper()}


@pytest.mark.parametrize("optimizer", STATES)
def test_states_are_those_that_torch_keeps(optimizer):
    """What a step leaves in an optimizer is counted, name by name, scalars apart."""
    name, _, momentum = optimizer.partition("+")
    weight = nn.Parameter(torch.ones(3, 2))
    made = CLASSES[name]([weight], **({"momentum": 0.9} if momentum else {}))
    weight.sum().backward()
    made.step()
    states = {key: value for key, value in made.state[weight].items() if value is not None}
    kept = [key for key, value in states.items() if value.shape == weight.shape]
    assert sorted(kept) == sorted(STATES[optimizer])
    assert all(states[key].dtype is weight.dtype for key in kept)
    assert all(states[key].numel() == 1 for key in states.keys() - kept)


class Policies(nn.Module):
    """What is one value on all ranks, what each has for itself, what is frozen, and a scalar."""

    def __init__(self):
        super().__init__()
        self.shared = tc.variable(torch.zeros(10, 3))
        self.own = tc.variable(torch.zeros(10, 3), synchronization="none")
        self.frozen = tc.variable(torch.zeros(10, 3), trainable=False)
        self.scalar = tc.variable(0.0)


def test_policies_decide_what_a_rank_has():
    """Sharded, one value is split by rows and a value per rank is whole; frozen is not trained."""
    taken = tc.inspect(Policies()).training("adamw", ranks=4)
    whole, part = 30 * 4, len(torch.zeros(10).chunk(4)[0]) * 3 * 4
    assert taken["replicated"] == {
        "parameters": 3 * whole + 4,
        "gradients": 2 * whole + 4,
        "states": 2 * (2 * whole + 4),
        "together": 3 * whole + 4 + 3 * (2 * whole + 4),
    }
    assert taken["sharded"]["parameters"] == part + whole + part + 4
    assert taken["sharded"]["gradients"] == part + whole + 4
    alone = tc.inspect(Policies()).training("adamw")
    assert alone["sharded"] == alone["replicated"] == taken["replicated"]


def test_the_formula_is_said():
    """The text has the figures, and how they were computed."""
    text = in_words(tc.inspect(Policies()).training("adamw", ranks=4))
    assert text.splitlines()[4].split() == ["together", "1.1", "KiB", "676", "B"]
    assert "states = 2 × gradients (exp_avg, exp_avg_sq)" in text
    assert "ceil(rows / 4)" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "states = none" in in_words(tc.inspect(Policies()).training("sgd"))


def test_an_unknown_optimizer_is_refused():
    """The error has the nearest one."""
    with pytest.raises(ValueError, match=r"no optimizer 'adam_w' \(did you mean 'adamw'\?\)"):
        tc.inspect(Policies()).training("adam_w")
