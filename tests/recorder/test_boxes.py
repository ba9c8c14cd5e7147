"""A part of a recorded value is that part of the whole, bit for bit, however it was made."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from torchcreator._errors import BuildError
from torchcreator._recorder.boxes import (
    common,
    elements_of,
    in_one_piece,
    locate,
    region_in,
    row_length,
    runs,
)
from torchcreator._recorder.recording import record
from torchcreator._recorder.tape import Ref

VALUES = {
    "normal": lambda: torch.empty(1501, 300).normal_(1, 2),
    "uniform": lambda: torch.empty(1400, 299).uniform_(-1, 2),
    "kaiming": lambda: nn.Linear(333, 1301).weight.data,
    "an embedding with padding": lambda: nn.Embedding(3001, 64, padding_idx=5).weight.data,
    "a convolution": lambda: nn.Conv2d(64, 128, 3).weight.data,
    "channels last": lambda: nn.Conv2d(32, 64, 5).to(memory_format=torch.channels_last).weight.data,
    "recurrent": lambda: nn.LSTM(64, 160).weight_hh_l0.data,
    "attention": lambda: nn.MultiheadAttention(128, 4).in_proj_weight.data,
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(2700, 111), a=-1, b=1),
    "truncated far away": lambda: nn.init.trunc_normal_(torch.empty(2700, 111), std=0.02),
    "orthogonal, scaled": lambda: nn.init.orthogonal_(torch.empty(200, 180)).mul_(2),
    "bfloat16": lambda: torch.empty(1500, 301, dtype=torch.bfloat16).normal_(),
    "float64": lambda: torch.empty(900, 333, dtype=torch.float64).normal_(),
    "rounded afterwards": lambda: torch.randn(333, 100).half(),
    "bernoulli": lambda: torch.empty(933, 333).bernoulli_(0.3),
    "exponential": lambda: torch.empty(300_000).exponential_(),
    "log-normal": lambda: torch.empty(300, 150).log_normal_(),
    "integers": lambda: torch.empty(1400, 200, dtype=torch.int32).random_(0, 9),
    "transposed": lambda: torch.empty(1400, 201).normal_().t(),
    "drawn through a transpose": lambda: torch.empty(1400, 201).t().uniform_().t(),
    "joined by rows": lambda: torch.cat([torch.randn(100, 400), torch.ones(77, 400)]) / 3,
    "joined by columns": lambda: torch.cat([torch.randn(90, 50), torch.randn(90, 500)], dim=-1),
    "masked": lambda: torch.randn(300, 300).masked_fill(torch.ones(300, 300).triu().bool(), 0),
    "broadcast": lambda: torch.arange(400.0)[:, None] * torch.rand(300) + 1,
    "expanded": lambda: torch.randn(333, 1).expand(333, 200).clone(),
    "experts": lambda: torch.empty(6, 170, 120).normal_(),
    "one block": lambda: torch.empty(400, 301).normal_(),
    "rows longer than a block": lambda: torch.empty(3, 200_003).uniform_(),
    "one dimension": lambda: torch.randn(400_007),
    "small": lambda: torch.empty(33, 9).normal_(),
    "a scalar": lambda: torch.randn(()),
    "no pointwise operation": lambda: torch.randn(100, 400).softmax(0).mul_(3),
    "in pieces": lambda: in_pieces(),
    "a long chain": lambda: chained(250),
}


def in_pieces():
    value = torch.zeros(600, 300)
    value[10:500].normal_()
    value[:, 10:290].uniform_(1, 2)
    value[:, 7] = 3
    value[3:9, 2:5].add_(1)
    value[20:50].copy_(value[520:550] + 2)
    return value


def chained(steps):
    """Return what a tree of operations makes that has two branches at each step."""
    value = torch.randn(90, 60)
    for _ in range(steps):
        value = value * 0.5 + value.abs()
    return value


class Values(nn.Module):
    def __init__(self):
        super().__init__()
        for number, make in enumerate(VALUES.values()):
            self.register_buffer(f"b{number}", make())


def recorded(factory, seed):
    torch.manual_seed(3)
    return record(factory, (), {}, device=None, seed=seed, find=False)[1]


def whole_of(recording, name):
    return recording.value(recording.refs[name])


def some_region(size, choose):
    """Return one or two ranges in each dimension, or all of it."""
    region = []
    for length in size:
        ends = sorted(choose.randint(0, length) for _ in range(4))
        ranges = [[(0, length)], [(ends[0], ends[3])], [(ends[0], ends[1]), (ends[2], ends[3])]]
        region.append(choose.choice(ranges))
    return region


def taken(value, region):
    for dim, ranges in enumerate(region):
        value = torch.cat([value.narrow(dim, low, high - low) for low, high in ranges], dim)
    return value


@pytest.fixture(scope="module", params=[None, 5], ids=["exact", "seeded"])
def recording(request):
    return recorded(Values, request.param)


@pytest.mark.parametrize("name", VALUES)
def test_a_part_is_part_of_the_whole(recording, name):
    """Any region of a value, made by itself, is that region of the whole."""
    number = f"b{[*VALUES].index(name)}"
    whole, choose = whole_of(recording, number), random.Random(name)
    for _ in range(12):
        region = some_region(whole.shape, choose)
        part = recording.part(recording.refs[number], region)
        assert part.is_contiguous()
        assert torch.equal(part, taken(whole, region)), region


def test_exact_parts_are_of_plain_construction():
    """Without a seed the whole is what the constructor makes, so its parts are too."""
    recording = recorded(Values, None)
    torch.manual_seed(3)
    for name, tensor in Values().named_buffers():
        region = [[(0, min(2, length))] for length in tensor.shape]
        assert torch.equal(recording.part(recording.refs[name], region), taken(tensor, region))


def test_a_part_alone_does_not_make_the_whole():
    """Rows of a large value are drawn without the rest: it would not fit into memory."""

    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(1 << 24, 1 << 12, dtype=torch.bfloat16))
            nn.init.normal_(self.weight, std=0.02)
            with torch.no_grad():
                self.weight[3] = 0

    recording = recorded(Large, 0)
    part = recording.part(recording.refs["weight"], [[(1 << 23, (1 << 23) + 2)], [(0, 1 << 12)]])
    assert 0.018 < part.float().std() < 0.022
    assert not recording.part(recording.refs["weight"], [[(3, 4)], [(0, 9)]]).any()


def test_two_blocks_differ():
    """Each block of a large draw has a state of its own."""
    recording = recorded(lambda: nn.Linear(1 << 17, 3, bias=False), 0)
    first, second, third = whole_of(recording, "weight")
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_a_part_that_nobody_initialised():
    """What is garbage in this part is an error; what is garbage elsewhere is not this part's."""

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(8, 4))
            with torch.no_grad():
                self.weight[:4].fill_(1)

    recording = recorded(Half, 0)
    ref = recording.refs["weight"]
    assert torch.equal(recording.part(ref, [[(0, 3)], [(0, 4)]]), torch.ones(3, 4))
    with pytest.raises(BuildError, match="'weight' is not initialised; empty was called at"):
        recording.part(ref, [[(3, 5)], [(0, 4)]])


def test_a_scalar_that_nobody_initialised():
    """A tensor without dimensions is told in the same way."""

    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.empty(()))

    recording = recorded(Empty, None)
    with pytest.raises(BuildError, match="'scale' is not initialised"):
        recording.part(recording.refs["scale"], [])


class Drawn(TorchDispatchMode):
    """Counts what is drawn into values; what is passed over goes elsewhere, as integers."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.normal_, torch.ops.aten.uniform_):
            self.numbers += args[0].numel()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("seed", [None, 5], ids=["exact", "seeded"])
@pytest.mark.parametrize("kind", [nn.init.normal_, nn.init.uniform_])
@pytest.mark.parametrize("shape", [(3000, 301), (300, 301), (30, 100, 301)], ids=str)
def test_a_part_draws_itself(seed, kind, shape):
    """Rows are drawn and no others, but for what is left of a sixteen at each end of a block."""
    recording = recorded(lambda: nn.ParameterList([kind(torch.empty(shape))]), seed)
    ref = recording.refs["0"]
    inner = [[(0, length)] for length in shape[1:]]
    for start, stop in [(0, 7), (11, 12), (13, 29), (shape[0] - 1, shape[0])]:
        with Drawn() as drawn:
            part = recording.part(ref, [[(start, stop)], *inner])
        blocks = 1 + part.numel() // (109 * 300)
        assert 0 <= drawn.numbers - part.numel() <= 32 * blocks
        assert torch.equal(part, whole_of(recording, "0")[start:stop])


def test_parts_of_experts_draw_themselves():
    """Rows of each expert are drawn, and not the experts."""
    recording = recorded(lambda: nn.ParameterList([torch.empty(9, 400, 301).normal_()]), 5)
    with Drawn() as drawn:
        part = recording.part(recording.refs["0"], [[(0, 9)], [(50, 60)], [(0, 301)]])
    assert 0 <= drawn.numbers - part.numel() <= 32 * 9
    assert torch.equal(part, whole_of(recording, "0")[:, 50:60])


def test_rows():
    """Rows are as many dimensions, from the last one on, as fit; what is longer is cut inside."""
    assert row_length((512, 256, 3, 3), 1 << 15) == 256 * 9
    assert row_length((3, 1 << 20), 1 << 15) == 1


def test_what_lies_in_one_piece():
    """Rows do, columns do not; a row of one expert does, the same rows of several do not."""
    shape = torch.Size((4, 8, 16))
    assert in_one_piece(shape, ((1, 3), (0, 8), (0, 16))) == 128
    assert in_one_piece(shape, ((2, 3), (5, 7), (0, 16))) == 2 * 128 + 5 * 16
    assert in_one_piece(shape, ((2, 3), (5, 6), (3, 9))) == 2 * 128 + 5 * 16 + 3
    assert in_one_piece(shape, ((0, 4), (5, 7), (0, 16))) is None
    assert in_one_piece(shape, ((2, 3), (5, 7), (3, 9))) is None
    assert in_one_piece(torch.Size(()), ()) == 0
    assert elements_of(shape, [[(1, 3)], [(0, 8)], [(0, 16)]]) == (128, 384)
    assert elements_of(shape, [[(1, 2), (3, 4)], [(0, 8)], [(0, 16)]]) is None
    assert elements_of(shape, [[(0, 4)], [(5, 7)], [(0, 16)]]) is None
    assert elements_of((), []) == (0, 1)


def test_runs():
    """A range of columns is taken out of many rows at once, where blocks have several."""
    assert runs((8, 6), ((0, 8), (2, 4)), 12) == (6, (2, 4), [(0, 8)])
    assert runs((8, 6), ((2, 5), (0, 6)), 12) == (1, (0, 1), [(12, 30)])
    assert runs((2, 8, 6), ((0, 2), (2, 5), (1, 6)), 12) == (6, (1, 6), [(2, 5), (10, 13)])
    assert runs((2, 6), ((0, 2), (2, 4)), 6) == (1, (0, 1), [(2, 4), (8, 10)])
    assert runs((2, 6), ((0, 2), (2, 4)), 4) == (1, (0, 1), [(2, 4), (8, 10)])


def test_locate():
    """A view is a box of its storage if its dimensions are some of the storage's."""

    def ref(size, stride, offset=0):
        return Ref(0, torch.float32, torch.Size(size), stride, offset, conj=False, neg=False)

    grid = ref((4, 6), (6, 1))
    assert locate(grid, ref((6, 2), (1, 6), 6)) == (((1, 3), (0, 6)), (1, 0))
    assert locate(grid, ref((4,), (6,), 2)) == (((0, 4), (2, 3)), (0,))
    assert locate(grid, ref((4,), (7,))) is None
    assert locate(grid, ref((24,), (1,))) is None
    assert common(((0, 2), (1, 3)), ((1, 4), (0, 2))) == ((1, 2), (1, 2))
    assert common(((0, 2),), ((2, 4),)) is None


@pytest.mark.parametrize(
    ("index", "region"),
    [
        pytest.param(slice(1, 3), [[(1, 3)], [(0, 6)]], id="rows"),
        pytest.param((slice(None), slice(-2, None)), [[(0, 4)], [(4, 6)]], id="columns"),
        pytest.param((slice(3, 1), slice(0, 9)), [[(3, 3)], [(0, 6)]], id="nothing"),
        pytest.param(2, None, id="a row"),
        pytest.param(slice(0, 4, 2), None, id="every second row"),
        pytest.param(..., None, id="all"),
    ],
)
def test_what_slices_ask_for(index, region):
    """Slices of step 1 are a region; whatever else one indexes by is taken out of the whole."""
    assert region_in(index, (4, 6)) == region
