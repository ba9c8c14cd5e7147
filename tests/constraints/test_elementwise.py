"""Constraints on each element."""

from __future__ import annotations

import pytest
import torch

from torchcreator import constraints as c
from torchcreator._errors import VariableTypeError, VariableValueError


def test_integers_are_clamped() -> None:
    """Order is all that these need."""
    assert c.NonNeg()(torch.tensor([-2, 3])).tolist() == [0, 3]
    assert c.Clip(-1, 1)(torch.tensor([-2, 3])).tolist() == [-1, 1]


@pytest.mark.parametrize("constraint", [c.NonNeg(), c.Clip(0.0, 1.0)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool], ids=str)
def test_numbers_without_order_are_refused(constraint, dtype) -> None:
    """Complex numbers have no order, and torch clamps no bool."""
    with pytest.raises(VariableTypeError, match=f"{dtype} are not clamped"):
        constraint(torch.ones(2, dtype=dtype))


def test_lists_of_any_shapes() -> None:
    """The in-place form takes tensors of different shapes, empty ones among them."""
    ws = [-torch.ones(2), -torch.ones(3, 4), torch.empty(0), torch.tensor(-1.0)]
    c.NonNeg().project_(ws)
    assert all(bool((w == 0).all()) for w in ws)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(c.Clip, "neither bound", id="none"),
        pytest.param(lambda: c.Clip(2, 1), r"Did you mean Clip\(1, 2\)", id="swapped"),
        pytest.param(lambda: c.Clip(float("nan"), 1), "allows nothing", id="nan"),
    ],
)
def test_impossible_bounds_are_refused(make, message: str) -> None:
    """Bounds that allow nothing, or everything, fail where they are written."""
    with pytest.raises(VariableValueError, match=message):
        make()


def test_one_bound_is_enough_for_lists() -> None:
    """The in-place form leaves the side that has no bound alone."""
    below, above = [torch.tensor([-3.0, 3.0])], [torch.tensor([-3.0, 3.0])]
    c.Clip(max_value=1.0).project_(below)
    c.Clip(min_value=-1.0).project_(above)
    assert below[0].tolist() == [-3.0, 1.0]
    assert above[0].tolist() == [-1.0, 3.0]
