"""A draw in pieces is the draw: where tensors may be cut, and what a piece costs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from tests.recorder.drawing import drawing_op
from tests.recorder.test_rng_outputs import LAYOUTS, as_read
from torchcreator._recorder.rng_draw import cut_near
from torchcreator._recorder.rng_jump import after
from torchcreator._recorder.rng_outputs import draw_of, form_of, is_contiguous

SIZES = [0, 1, 2, 15, 16, 53]
REAL = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
COMPLEX = [torch.complex64, torch.complex128]
INTEGRAL = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
ALL = [*REAL, *INTEGRAL, torch.bool]


PIECES = {
    "uniform_": ((-0.5, 0.25), REAL + COMPLEX),
    "normal_": ((1.0, 0.02), REAL + COMPLEX),
    "exponential_": ((1.0,), REAL),
    "cauchy_": ((0.0, 1.0), REAL),
    "geometric_": ((0.3,), REAL),
    "bernoulli_": ((0.3,), ALL),
    "random_": ((0, 100), REAL + INTEGRAL),
}


def cuts(draw, pieces):
    """Return where a draw is cut into about equal pieces, so many at the most."""
    wanted = (cut_near(draw, draw.elements * n // pieces) for n in range(1, pieces))
    return sorted({place for place in wanted if place is not None})


@as_read
@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("n", [32, 48, 53, 700, 5001])
def test_pieces_make_the_whole(name, n):
    """Drawn in pieces, each from where its first number starts, a tensor holds the same bits."""
    numbers, dtypes = PIECES[name]
    for dtype in dtypes:

        def drawn(generator=None, dtype=dtype):
            return getattr(torch.empty(n, dtype=dtype), name)(*numbers, generator=generator)

        draw = draw_of(drawing_op(drawn))
        generator = torch.Generator("cpu").manual_seed(1)
        state = generator.get_state()
        whole = drawn(generator)
        pieces = torch.empty(n, dtype=dtype)
        places = [0, *cuts(draw, 5), n]
        assert len(places) > 2
        for start, end in itertools.pairwise(places):
            own = torch.Generator("cpu")
            own.set_state(after(state, draw.each * start))
            draw.fill(pieces[start:end], *draw.numbers, generator=own)
        assert torch.equal(pieces, whole), dtype
        assert torch.equal(own.get_state(), generator.get_state()), dtype


def test_normals_are_cut_at_sixteens():
    """Every cut of normal values is a multiple of sixteen that leaves at least sixteen."""
    draw = draw_of(drawing_op(lambda: torch.randn(100)))
    assert [cut_near(draw, n) for n in (0, 15, 16, 40, 79, 95, 100, 1000)] == [
        None, None, 16, 32, 64, 80, 80, 80,
    ]  # fmt: skip
    assert cuts(draw, 1) == []
    assert cuts(draw, 3) == [32, 64]
    assert cuts(draw, 50) == [16, 32, 48, 64, 80]


def test_uniform_values_are_cut_anywhere():
    """Uniform values may be cut between any two."""
    draw = draw_of(drawing_op(lambda: torch.rand(10)))
    assert [cut_near(draw, n) for n in (0, 1, 9, 10)] == [None, 1, 9, 9]
    assert cuts(draw, 4) == [2, 5, 7]


def test_the_shortest_piece_around_a_range():
    """A range is widened to where the draw may be cut, and no farther."""
    normal = draw_of(drawing_op(lambda: torch.randn(100)))
    ranges = [(0, 100), (0, 16), (3, 5), (16, 33), (64, 81), (80, 84), (85, 99), (99, 100)]
    assert [normal.around(*one) for one in ranges] == [
        (0, 100), (0, 16), (0, 16), (16, 48), (64, 100), (80, 100), (80, 100), (80, 100),
    ]  # fmt: skip
    uniform = draw_of(drawing_op(lambda: torch.rand(10)))
    assert all(uniform.around(*one) == one for one in [(0, 10), (3, 4), (9, 10)])


def test_the_shortest_piece_around_a_range_in_blocks():
    """In blocks each has its sixteens and its tail, the last one, too, however short it is."""
    draw = draw_of(drawing_op(lambda: torch.randn(107)))._replace(block=50)
    ranges = [(0, 107), (20, 30), (33, 34), (35, 50), (50, 60), (45, 55), (99, 101), (103, 105)]
    assert [draw.around(*one) for one in ranges] == [
        (0, 107), (16, 32), (32, 50), (32, 50), (50, 66), (32, 66), (82, 107), (100, 107),
    ]  # fmt: skip
    whole = draw._replace(step=50, tail=1)
    assert [whole.around(*one) for one in ranges[1:5]] == [(0, 50), (0, 50), (0, 50), (50, 100)]


@as_read
@pytest.mark.parametrize(
    "draws",
    [
        lambda: torch.randn(15),
        lambda: torch.randn(31),
        lambda: torch.empty(50).log_normal_(),
        lambda: torch.empty(50, 3).t().normal_(),
        lambda: torch.empty(50, 3).t().uniform_(),
        lambda: torch.randperm(100),
        lambda: nn.init.orthogonal_(torch.empty(10, 10)),
        lambda: torch.bernoulli(torch.full((50,), 0.3)),
    ],
    ids=[
        "serial",
        "too short",
        "logarithms",
        "transposed normal",
        "transposed uniform",
        "permutation",
        "orthogonal",
        "chances",
    ],
)
def test_what_is_made_as_a_whole_is_not_cut(draws):
    """What mixes its numbers, is too short or lies otherwise in memory is not cut."""
    assert cuts(draw_of(drawing_op(draws)), 4) == []


def test_a_snapshot_says_what_a_tensor_does():
    """Recorded tensors of all layouts count as contiguous where torch says so."""
    for layout, n in itertools.product(LAYOUTS, SIZES[1:]):
        tensor = layout(n, torch.float32)
        assert is_contiguous(form_of(tensor)) == tensor.is_contiguous()


@as_read
def test_costs_are_in_proportion():
    """A draw is estimated by its kind and size."""
    small, large = (draw_of(drawing_op(lambda n=n: torch.randn(n))) for n in (1600, 16000))
    assert large.cost == pytest.approx(10 * small.cost)
    serial = draw_of(drawing_op(lambda: torch.empty(40, 40).t().normal_()))
    assert serial.cost > 3 * small.cost
    orthogonal = draw_of(drawing_op(lambda: nn.init.orthogonal_(torch.empty(40, 40))))
    assert orthogonal.cost == pytest.approx(20 * small.cost)
