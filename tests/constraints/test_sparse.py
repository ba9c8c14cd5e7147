"""Sparsity, masks and the simplex."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from torchcreator import constraints as c
from torchcreator._errors import VariableTypeError, VariableValueError


def test_a_part_is_rounded_up() -> None:
    """A tenth of five elements is one."""
    assert c.Sparse(0.1)(torch.arange(1.0, 6.0)).tolist() == [0.0, 0.0, 0.0, 0.0, 5.0]


def test_groups_along_any_dims() -> None:
    """The groups may lie along dimensions that are not the last."""
    w = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    assert c.Sparse(1, dim=0)(w).tolist() == [[0.0, 4.0], [3.0, 0.0]]
    kept = c.Sparse(2, dim=(0, 2))(torch.randn(3, 4, 5))
    assert (kept != 0).sum(dim=(0, 2)).tolist() == [2, 2, 2, 2]


def test_k_beyond_the_group_changes_nothing() -> None:
    """A group smaller than k is sparse enough."""
    w = torch.randn(2, 3)
    assert torch.equal(c.Sparse(9)(w), w)
    assert c.Sparse(1)(torch.tensor(3.0)).item() == 3.0


@pytest.mark.parametrize("k", [0, -1, 1.5, 0.0, "2"], ids=repr)
def test_what_is_no_count_is_refused(k) -> None:
    """It is a whole number from one, or a part below one."""
    with pytest.raises(VariableValueError, match="neither a count nor a part"):
        c.Sparse(k)


def test_a_mask_is_copied() -> None:
    """Writing to the tensor that was passed does not change the constraint."""
    mask = torch.tensor([True, False])
    constraint = c.Masked(mask)
    mask[:] = True
    assert constraint(torch.ones(2)).tolist() == [1.0, 0.0]


def test_a_mask_replaces_what_is_not_finite() -> None:
    """Outside the mask is zero, whatever was there; zero times infinity would be NaN."""
    assert c.Masked([1, 0])(torch.tensor([2.0, torch.inf])).tolist() == [2.0, 0.0]


def test_masks_are_equal_by_value() -> None:
    """Equal masks make equal constraints; their cached copies do not count."""
    first, second = c.Masked([1, 0]), c.Masked(torch.tensor([3.0, 0.0]))
    first(torch.ones(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != c.Masked([1, 1])
    assert first != c.NonNeg()
    assert pickle.loads(pickle.dumps(first)) == copy.deepcopy(first) == first


def test_masks_on_integers() -> None:
    """A mask needs no arithmetic."""
    assert c.Masked([1, 0])(torch.tensor([5, 6])).tolist() == [5, 0]


def test_a_mask_that_does_not_fit_is_refused() -> None:
    """A mask must broadcast to the parameter, not the other way round."""
    for shape in ((3,), (2, 1, 2)):
        with pytest.raises(VariableTypeError, match="does not broadcast"):
            c.Masked(torch.ones(shape))(torch.ones(1, 2))


def test_simplex_needs_an_order_and_a_dimension() -> None:
    """Neither a number nor complex numbers have a simplex."""
    with pytest.raises(VariableTypeError, match="no last dimension"):
        c.Simplex()(torch.tensor(1.0))
    with pytest.raises(VariableTypeError, match="no order"):
        c.Simplex()(torch.ones(2, dtype=torch.complex64))


def test_simplex_total() -> None:
    """The sum may be another than one."""
    assert c.Simplex(4.0)(torch.tensor([1.0, 1.0])).tolist() == [2.0, 2.0]
