"""Composition, and functions of the user's own."""

from __future__ import annotations

import pytest
import torch

from torchcreator import constraints as c
from torchcreator._errors import ConstraintError, VariableTypeError


def halve(w: torch.Tensor) -> torch.Tensor:
    return w / 2


def test_the_first_is_applied_first() -> None:
    """``a & b`` is ``b(a(w))``."""
    w = torch.tensor([-4.0, 3.0])
    assert (c.NonNeg() & c.Clip(max_value=1.0))(w).tolist() == [0.0, 1.0]
    assert (c.Clip(min_value=2.0) & halve)(w).tolist() == [1.0, 1.5]
    assert (halve & c.Clip(min_value=2.0))(w).tolist() == [2.0, 2.0]


def test_composition_is_flat_and_associative() -> None:
    """However the brackets stand, the parts are a row."""
    left = (c.NonNeg() & c.MaxNorm()) & c.Simplex()
    right = c.NonNeg() & (c.MaxNorm() & c.Simplex())
    assert left == right
    assert hash(left) == hash(right)
    assert repr(left) == "NonNeg() & MaxNorm(max_value=2.0, dim=None) & Simplex(total=1.0)"
    assert not left.idempotent


def test_only_callables_compose() -> None:
    """Composing with anything else is Python's TypeError."""
    with pytest.raises(TypeError, match="unsupported operand"):
        c.NonNeg() & 3
    with pytest.raises(TypeError, match="unsupported operand"):
        3 & c.NonNeg()


def test_a_part_that_does_not_fit_is_named() -> None:
    """The objection of any part is the whole's."""
    with pytest.raises(VariableTypeError, match=r"NonNeg\(\) & Symmetric\(\).*\n.*not square"):
        (c.NonNeg() & c.Symmetric())(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(lambda w: None, "returned None", id="none"),
        pytest.param(lambda w: 3.0, "returned 3.0", id="number"),
        pytest.param(lambda w: w[:1], r"another shape.\n  expected: .*\n  actual: ", id="shape"),
        pytest.param(lambda w: w.double(), "another dtype", id="dtype"),
        pytest.param(lambda w: w.to("meta"), "another device", id="device"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(function, message: str) -> None:
    """A function's result has the tensor's shape, dtype and device."""
    with pytest.raises(ConstraintError, match=message):
        (c.NonNeg() & function)(torch.ones(2))


def test_a_function_may_write_in_place() -> None:
    """It gets a copy, so writing to its argument changes nothing else."""
    w = torch.tensor([-1.0, 1.0])
    result = (c.Clip(-5, 5) & (lambda v: v.clamp_(min=0)))(w)
    assert result.tolist() == [0.0, 1.0]
    assert w.tolist() == [-1.0, 1.0]


def test_the_batched_form_applies_functions_to_each() -> None:
    """In a stack a function sees one tensor at a time."""
    shapes = []

    def note(w: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(w.shape))
        return w

    ws = [-torch.ones(2, 3), -torch.ones(2, 3)]
    (c.NonNeg() & note).project_(ws)
    assert shapes == [(2, 3), (2, 3)]
    assert all(torch.equal(w, torch.zeros(2, 3)) for w in ws)


def test_a_stack_is_projected_as_its_tensors_are() -> None:
    """Given a batch, a function of one's own still sees one tensor at a time."""
    ws = torch.arange(-6.0, 6.0).view(2, 3, 2)
    batched = (c.NonNeg() & (lambda w: w - w.mean())).project(ws, 2)
    assert torch.equal(batched, torch.stack([w.relu() - w.relu().mean() for w in ws]))
