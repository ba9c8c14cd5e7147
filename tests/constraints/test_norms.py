"""Constraints on norms: Keras' formulas, and which elements make a group."""

from __future__ import annotations

import numpy
import pytest
import torch

from torchcreator import constraints as c
from torchcreator._errors import VariableTypeError, VariableValueError
from torchcreator.constraints._norms import reduced_dims

EPSILON = 1e-7


def keras_norm(w: torch.Tensor, axis: tuple[int, ...]) -> torch.Tensor:
    return w.square().sum(dim=axis, keepdim=True).sqrt()


@pytest.mark.parametrize("scale", [1e-3, 0.3, 5.0])
class TestKerasFormulas:
    """Written out as Keras has them, with ``axis`` for a kernel of torch's orientation."""

    def test_max_norm(self, scale: float) -> None:
        """It is Keras' formula, to its epsilon."""
        w = scale * torch.randn(6, 4, dtype=torch.float64)
        norms = keras_norm(w, (1,))
        expected = w * (norms.clamp(0, 2) / (EPSILON + norms))
        torch.testing.assert_close(c.MaxNorm(2.0)(w), expected, rtol=0, atol=2 * EPSILON)

    def test_unit_norm(self, scale: float) -> None:
        """It is Keras' formula exactly."""
        w = scale * torch.randn(6, 4, dtype=torch.float64)
        expected = w / (EPSILON + keras_norm(w, (1,)))
        torch.testing.assert_close(c.UnitNorm()(w), expected)

    @pytest.mark.parametrize("rate", [1.0, 0.3])
    def test_min_max_norm(self, scale: float, rate: float) -> None:
        """It is Keras' formula, to its epsilon."""
        w = scale * torch.randn(6, 4, dtype=torch.float64)
        norms = keras_norm(w, (1,))
        desired = rate * norms.clamp(0.5, 1.0) + (1 - rate) * norms
        expected = w * (desired / (EPSILON + norms))
        ours = c.MinMaxNorm(0.5, 1.0, rate=rate)(w)
        torch.testing.assert_close(ours, expected, rtol=0, atol=2 * EPSILON)


@pytest.mark.parametrize(
    ("dim", "ndim", "expected"),
    [
        pytest.param(None, 2, (-1,), id="default-matrix"),
        pytest.param(None, 4, (-3, -2, -1), id="default-kernel"),
        pytest.param(None, 1, (-1,), id="default-vector-is-one-unit"),
        pytest.param(None, 0, (), id="default-number"),
        pytest.param(0, 2, (-2,), id="first"),
        pytest.param(-1, 3, (-1,), id="last"),
        pytest.param((1, 2), 4, (-3, -2), id="several"),
        pytest.param((), 3, (-3, -2, -1), id="all"),
    ],
)
def test_dim_is_torchs(dim, ndim: int, expected: tuple[int, ...]) -> None:
    """``dim`` counts as torch counts; None is every dimension but the first."""
    assert reduced_dims(dim, ndim) == expected


def test_inside_the_ball_nothing_changes() -> None:
    """A unit within its bounds is left bit for bit, step after step."""
    w = 1e-4 * torch.randn(5, 5)
    assert torch.equal(c.MaxNorm(1.0)(w), w)
    assert torch.equal(c.MinMaxNorm(0.0, 1.0)(w), w)


def test_zero_stays_zero() -> None:
    """No direction is made up for a unit without one, and nothing is divided by zero."""
    for constraint in (c.MaxNorm(1.0), c.UnitNorm(), c.MinMaxNorm(0.5, 1.0)):
        assert torch.equal(constraint(torch.zeros(3, 2)), torch.zeros(3, 2))


def test_half_precision_norms_do_not_overflow() -> None:
    """Squares of float16 numbers are summed in float32."""
    w = torch.full((1, 100), 300.0, dtype=torch.float16)
    assert c.MaxNorm(1.0)(w).tolist() == [pytest.approx([0.1] * 100, rel=1e-3)]


def test_complex_norm_is_the_modulus() -> None:
    """A complex unit keeps its phases."""
    w = torch.tensor([[3j, 4.0]])
    torch.testing.assert_close(c.MaxNorm(1.0)(w), torch.tensor([[0.6j, 0.8]]))


def test_number() -> None:
    """A parameter without dimensions is one unit of one element."""
    assert c.MaxNorm(2.0)(torch.tensor(-3.0)).item() == pytest.approx(-2.0)
    ws = [torch.tensor(3.0), torch.tensor(-5.0)]
    c.MaxNorm(2.0).project_(ws)
    assert [w.item() for w in ws] == [pytest.approx(2.0), pytest.approx(-2.0)]


@pytest.mark.parametrize("dim", [2, -3, (0, 0), (1, -1)], ids=str)
def test_a_dim_that_is_not_there_is_named(dim) -> None:
    """A dimension that the tensor lacks, or named twice, is an error with its shape."""
    with pytest.raises(VariableTypeError, match=r"shape \(3, 2\).*\n.*distinct dimensions"):
        c.MaxNorm(dim=dim)(torch.ones(3, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: c.MaxNorm("1"), r"MaxNorm\(max_value='1'\) is not a nu", id="text"),
        pytest.param(lambda: c.MaxNorm(None), "max_value=None", id="none"),
        pytest.param(lambda: c.MinMaxNorm(0.5, [1.0]), "max_value=", id="list"),
        pytest.param(lambda: c.MinMaxNorm(rate="0.5"), "rate='0.5'", id="rate"),
        pytest.param(lambda: c.SpectralNorm(torch.ones(())), "SpectralNorm", id="tensor"),
        pytest.param(lambda: c.PositiveDefinite("0"), "min_value='0'", id="eigenvalue"),
        pytest.param(lambda: c.Simplex("1"), "total='1'", id="total"),
        pytest.param(lambda: c.Clip("0", 1), "min_value='0'", id="bound"),
        pytest.param(lambda: c.UnitNorm(1.0), r"UnitNorm\(dim=1.0\) is not a dimen", id="length"),
        pytest.param(lambda: c.MaxNorm(1.0, "rows"), "dim='rows'", id="word"),
    ],
)
def test_what_is_no_number_is_refused(make, message: str) -> None:
    """What people write for a bound or a dimension fails where it is written, by its name."""
    with pytest.raises(VariableTypeError, match=message):
        make()


@pytest.mark.parametrize("kind", [c.MaxNorm, c.UnitNorm, c.MinMaxNorm, c.Sparse])
def test_the_word_of_keras_leads_to_ours(kind) -> None:
    """``axis`` counts the other way round: the error has our word and the number to write."""
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(axis=0\).*\n.*\n.*dim=1 for axis=0"):
        kind(1, axis=0)


def test_numbers_of_numpy_are_numbers() -> None:
    """They are what a sweep over bounds has at hand."""
    assert c.MaxNorm(numpy.float32(0.5)) == c.MaxNorm(0.5)
    assert c.Clip(numpy.int64(-1), 1)(torch.tensor([-3.0])).tolist() == [-1.0]


def test_a_list_of_dims_is_a_tuple() -> None:
    """As a config from JSON has it; the constraint stays hashable."""
    assert c.UnitNorm(dim=[0, 1]) == c.UnitNorm(dim=(0, 1))
    assert hash(c.UnitNorm(dim=[0, 1])) == hash(c.UnitNorm(dim=(0, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: c.MaxNorm(-1.0), r"MaxNorm\(max_value=-1.0\)", id="negative"),
        pytest.param(lambda: c.MaxNorm(float("nan")), "is not a length", id="nan"),
        pytest.param(lambda: c.MinMaxNorm(2.0, 1.0), "describes no shell", id="empty-shell"),
        pytest.param(lambda: c.MinMaxNorm(rate=0.0), "0 < rate <= 1", id="no-rate"),
        pytest.param(lambda: c.MinMaxNorm(-1.0, 1.0), "min_value=-1.0", id="negative-lower"),
    ],
)
def test_impossible_bounds_are_refused(make, message: str) -> None:
    """Bounds that no norm can have fail where they are written."""
    with pytest.raises(VariableValueError, match=message):
        make()


def test_only_a_rate_below_one_is_not_idempotent() -> None:
    """The engine must know which constraints to apply once only."""
    assert c.MinMaxNorm(0.5, 1.0).idempotent
    assert not c.MinMaxNorm(0.5, 1.0, rate=0.5).idempotent


def test_integers_are_refused() -> None:
    """A norm constraint divides; integers cannot hold the result."""
    with pytest.raises(VariableTypeError, match="not a floating dtype"):
        c.MaxNorm()(torch.ones(2, 2, dtype=torch.int64))
