"""A list of parameters is recognised by identity, whatever their values are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchcreator._optim.held import Held


def ones(*shape, **options):
    return nn.Parameter(torch.ones(*shape, **options))


CHANGES = {
    "equal": lambda: (ones(3), ones(3)),
    "equal, of one element": lambda: (ones(1), ones(1)),
    "equal, without a dimension": lambda: (ones(()), ones(())),
    "empty": lambda: (ones(0), ones(0)),
    "one element for several": lambda: (ones(3), ones(1)),
    "several for one element": lambda: (ones(1), ones(3)),
    "another shape": lambda: (ones(3), ones(2)),
    "another dtype": lambda: (ones(3), ones(3, dtype=torch.float64)),
    "without values": lambda: (ones(3), ones(3, device="meta")),
    "no parameter": lambda: (torch.ones(3), torch.ones(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_parameter_in_its_place_is_seen(change):
    """Nothing that is not the same object passes for it."""
    before, after = CHANGES[change]()
    held = Held([ones(2), before])
    assert held.is_still(held.parameters[:])
    assert not held.is_still([held.parameters[0], after])


def test_order_and_number_count():
    """The same parameters in another order, or fewer of them, are another list."""
    first, second = ones(2), ones(2)
    held = Held([first, second])
    assert held.is_still([first, second])
    assert not held.is_still([second, first])
    assert not held.is_still([first])
