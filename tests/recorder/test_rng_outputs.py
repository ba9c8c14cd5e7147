"""What draws take of the generator: the table says what torch does."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.recorder.drawing import (
    after_plainly,
    as_read,
    drawing_op,
    drawing_ops,
    start_states,
)
from torchcreator._recorder.rng_jump import after, place_of
from torchcreator._recorder.rng_outputs import draw_of

SIZES = [0, 1, 2, 15, 16, 53]
REAL = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
COMPLEX = [torch.complex64, torch.complex128]
INTEGRAL = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
ALL = [*REAL, *INTEGRAL, torch.bool]


def flat(n, dtype):
    return torch.empty(n, dtype=dtype)


def transposed(n, dtype):
    return torch.empty(n, 3, dtype=dtype).t()


def with_gaps(n, dtype):
    return torch.empty(2 * n, dtype=dtype)[::2]


def a_slice(n, dtype):
    return torch.empty(n + 3, dtype=dtype)[3:]


def channels_last(n, dtype):
    return torch.empty(n, 2, 2, 3, dtype=dtype, memory_format=torch.channels_last)


LAYOUTS = [flat, transposed, with_gaps, a_slice, channels_last]


def chances(n, dtype):
    return torch.full((n,), 0.3, dtype=dtype)


IN_PLACE = {
    "uniform_": (lambda t: t.uniform_(), REAL + COMPLEX),
    "uniform_ in a range": (lambda t: t.uniform_(-0.5, 0.25), REAL),
    "aten uniform_": (torch.ops.aten.uniform_, REAL),
    "init.uniform_": (nn.init.uniform_, REAL),
    "normal_": (lambda t: t.normal_(), REAL + COMPLEX),
    "normal_ with a scale": (lambda t: t.normal_(1.0, std=0.02), REAL),
    "aten normal_": (torch.ops.aten.normal_, REAL),
    "init.normal_": (nn.init.normal_, REAL),
    "init.trunc_normal_": (lambda t: nn.init.trunc_normal_(t, std=0.02), REAL),
    "log_normal_": (lambda t: t.log_normal_(), REAL),
    "exponential_": (lambda t: t.exponential_(), REAL),
    "cauchy_": (lambda t: t.cauchy_(), REAL),
    "geometric_": (lambda t: t.geometric_(0.3), REAL + INTEGRAL),
    "bernoulli_": (lambda t: t.bernoulli_(), ALL),
    "bernoulli_ never": (lambda t: t.bernoulli_(0.0), ALL),
    "bernoulli_ by a tensor": (lambda t: t.bernoulli_(torch.full(t.shape, 0.3)), ALL),
    "bernoulli_ by float64": (
        lambda t: t.bernoulli_(torch.full(t.shape, 0.3, dtype=torch.float64)),
        ALL,
    ),
    "random_": (lambda t: t.random_(), ALL),
    "random_ to": (lambda t: t.random_(100), REAL + INTEGRAL),
    "random_ from to": (lambda t: t.random_(3, 100), REAL + INTEGRAL),
    "random_ below 2^28": (lambda t: t.random_(-5, (1 << 28) - 6), [torch.int64, torch.float64]),
    "random_ of 2^28": (lambda t: t.random_(-5, (1 << 28) - 5), [torch.int64, torch.float64]),
    "random_ of 2^31": (lambda t: t.random_(-(1 << 31), (1 << 31) - 1), [torch.int32, torch.int64]),
    "random_ of 2^40": (lambda t: t.random_(1 << 40), [torch.int64, torch.float64]),
}

OF_A_SIZE = {
    "rand": (lambda n, d: torch.rand(n, dtype=d), REAL + COMPLEX),
    "randn": (lambda n, d: torch.randn(n, dtype=d), REAL + COMPLEX),
    "randn of two dimensions": (lambda n, d: torch.randn(n, 3, dtype=d), REAL),
    "randint": (lambda n, d: torch.randint(7, (n,), dtype=d), REAL + INTEGRAL),
    "randint from": (lambda n, d: torch.randint(-7, 7, (n,), dtype=d), REAL + INTEGRAL[1:]),
    "randint of 2^40": (lambda n, d: torch.randint(1 << 40, (n,), dtype=d), [torch.int64]),
    "randperm": (lambda n, d: torch.randperm(n, dtype=d), [torch.int32, torch.int64]),
    "normal": (lambda n, d: torch.normal(1.0, 2.0, (n,), dtype=d), REAL),
    "bernoulli": (lambda n, d: torch.bernoulli(chances(n, d)), REAL),
    "bernoulli with p": (lambda n, d: torch.bernoulli(chances(n, d), 0.5), REAL),
    "dropout": (lambda n, d: F.dropout(chances(n + 1, d), 0.5), REAL),
    "multinomial": (lambda n, d: torch.multinomial(chances(n + 4, d), 3), REAL),
    "multinomial of rows": (lambda n, d: torch.multinomial(torch.ones(n + 1, 5), 2), [None]),
    "multinomial again and again": (
        lambda n, d: torch.multinomial(chances(3, d), n + 2, replacement=True),
        REAL,
    ),
    "multinomial again in rows": (
        lambda n, d: torch.multinomial(torch.ones(n + 1, 5), 3, replacement=True),
        [None],
    ),
    "multinomial once": (
        lambda n, d: torch.multinomial(chances(n + 4, d), 1, replacement=True),
        REAL,
    ),
}

LIKE = {
    "rand_like": (torch.rand_like, REAL),
    "randn_like": (torch.randn_like, REAL + COMPLEX),
    "randint_like": (lambda t: torch.randint_like(t, 7), REAL + INTEGRAL),
    "randint_like from": (lambda t: torch.randint_like(t, -7, 7), REAL),
    "randn_like otherwise": (
        lambda t: torch.randn_like(t, dtype=torch.float64, memory_format=torch.contiguous_format),
        REAL,
    ),
    "normal with means": (lambda t: torch.normal(t.fill_(1.0), 2.0), REAL),
    "normal with deviations": (lambda t: torch.normal(1.0, t.fill_(2.0)), REAL),
    "normal with both": (lambda t: torch.normal(t.fill_(1.0), t.clone()), REAL),
}

OF_MATRICES = {
    "kaiming_uniform_": (lambda t: nn.init.kaiming_uniform_(t, a=5**0.5), REAL),
    "kaiming_uniform_ by the other side": (
        lambda t: nn.init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"),
        REAL,
    ),
    "kaiming_normal_": (nn.init.kaiming_normal_, REAL),
    "xavier_uniform_": (nn.init.xavier_uniform_, REAL),
    "xavier_normal_": (nn.init.xavier_normal_, REAL),
    "orthogonal_": (lambda t: nn.init.orthogonal_(t, gain=2.0), REAL[:2]),
}


def fills(function, layout, n, dtype):
    return lambda: function(layout(n, dtype))


def cases():
    """Yield a name and a draw, for every entry of the table."""
    for name, (function, dtypes) in [*IN_PLACE.items(), *LIKE.items()]:
        for layout, n, dtype in itertools.product(LAYOUTS, SIZES, dtypes):
            yield f"{name} {layout.__name__}", fills(function, layout, n, dtype)
    for name, (function, dtypes) in OF_A_SIZE.items():
        for n, dtype in itertools.product(SIZES, dtypes):
            yield name, lambda function=function, n=n, dtype=dtype: function(n, dtype)
    for name, (function, dtypes) in OF_MATRICES.items():
        for n, dtype in itertools.product(SIZES[1:], dtypes):
            for shape in ((n, 3), (4, n), (2, n, 2, 2)):
                yield (
                    name,
                    lambda function=function, shape=shape, dtype=dtype: function(
                        torch.empty(shape, dtype=dtype)
                    ),
                )
            yield f"{name} transposed", fills(function, transposed, n, dtype)


CASES: dict[str, list] = {}
for case, draws in cases():
    CASES.setdefault(case, []).append(draws)


def is_right(draw, draws):
    """Return whether a draw takes what is said of it, from every start."""
    for state in start_states():
        outputs, cached = draw.taken(cached=place_of(state).cached)
        drawn, counted = after_plainly(state, draws), after(state, outputs)
        if not torch.equal(drawn[:5024], counted[:5024]) or place_of(drawn).cached != cached:
            return False
    return True


@as_read
@pytest.mark.parametrize("name", CASES)
def test_every_count_is_what_torch_takes(name):
    """From every start, for every size and dtype: the outputs, and whether a normal value waits."""
    for draws in CASES[name]:
        op = drawing_op(draws)
        draw = draw_of(op)
        assert draw is not None, op
        assert is_right(draw, draws), op


LARGE = 70_001  # above it torch shares work out among threads


@as_read
@pytest.mark.parametrize("name", IN_PLACE)
def test_large_draws_take_in_proportion(name):
    """The same where a tensor is large."""
    function, (dtype, *_) = IN_PLACE[name]
    draws = fills(function, flat, LARGE, dtype)
    assert is_right(draw_of(drawing_op(draws)), draws)


def draws_of_all_kinds():
    """Draw what a constructor may: odd sizes, all dtypes, serial normals before vectorised ones."""
    linear = nn.Linear(5, 7)
    made = [
        torch.randn(1),
        nn.LSTM(3, 5, num_layers=2).weight_ih_l0,
        torch.randn(40, dtype=torch.float64),
        torch.randn(7, dtype=torch.bfloat16),
        torch.randperm(100),
        torch.empty(4, 4).t().normal_(),
        torch.empty(3).log_normal_(),
        torch.rand(5, dtype=torch.float64),
        torch.empty(3, 3).exponential_(),
        torch.randn(1001),
        nn.Embedding(11, 3).weight,
        nn.Conv2d(3, 5, 3).weight,
    ]
    nn.init.orthogonal_(linear.weight)
    nn.init.trunc_normal_(linear.bias, std=0.02)
    return made


@as_read
@pytest.mark.parametrize("state", start_states(), ids=["fresh", "used", "cached"])
def test_counts_add_up(state):
    """From a constructor's start its draws, taken together, lead to its end."""
    total, cached = 0, place_of(state).cached
    for op in drawing_ops(draws_of_all_kinds):
        outputs, cached = draw_of(op).taken(cached=cached)
        total += outputs
    drawn = after_plainly(state, draws_of_all_kinds)
    assert torch.equal(drawn[:5024], after(state, total)[:5024])
    assert place_of(drawn).cached == cached


@as_read
@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("n", [5, 16, 53])
def test_a_truncated_normal_that_rejects_nothing_is_a_normal(dtype, n):
    """With bounds that no value reaches it takes and gives what `normal_` does."""
    drawn = drawing_op(lambda: nn.init.trunc_normal_(torch.empty(n, dtype=dtype), 0.5, 0.02))
    assert draw_of(drawn).fill is torch.Tensor.normal_
    assert draw_of(drawn).numbers == (0.5, 0.02)


@as_read
@pytest.mark.parametrize(("n", "reach"), [(5, 8.6), (16, 5.8)], ids=["serial", "vectorised"])
def test_how_far_a_normal_value_reaches(n, reach):
    """Values of 53 random bits reach further than those of 24, and never further than is said."""

    def truncated(bound):
        return draw_of(
            drawing_op(lambda: nn.init.trunc_normal_(torch.empty(n), 0.0, 1.0, -bound, bound))
        )

    assert truncated(reach + 0.01) is not None
    assert truncated(reach - 0.01) is None
