"""Large seeded draws are made in blocks, each with a state of its own, by several threads."""

from __future__ import annotations

import hashlib
import weakref

import pytest
import torch
from torch import nn

from tests.recorder.drawing import drawing_op
from torchcreator._build.build import build
from torchcreator._errors import BuildError
from torchcreator._recorder.recording import record
from torchcreator._recorder.rng_blocks import Beginnings, in_blocks

BLOCK = 1 << 15


@pytest.fixture(params=[1, 4], ids=["one thread", "four threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def words(state):
    return state[24 : 24 + 8 * 624].view(torch.int64)


def test_all_of_a_state_is_a_hash():
    """Each of the 624 words is the hash's, and torch draws from them."""
    beginnings = Beginnings()
    state = beginnings.at(b"a stream", 3).get_state().clone()
    digest = hashlib.shake_128(b"a stream" + (3).to_bytes(8, "little")).digest(4 * 624)
    expected = torch.frombuffer(bytearray(digest), dtype=torch.int32)
    assert torch.equal(words(state) & 0xFFFFFFFF, expected.to(torch.int64) & 0xFFFFFFFF)
    first = torch.rand(100, generator=beginnings.at(b"a stream", 3))
    assert torch.equal(first, torch.rand(100, generator=beginnings.at(b"a stream", 3)))
    for stream, block in [(b"a stream", 4), (b"A stream", 3)]:
        other = torch.rand(100, generator=beginnings.at(stream, block))
        assert not torch.isclose(other, first).any()


def test_a_block_forgets_the_one_before():
    """A normal value that waits in a generator does not reach the next block."""
    beginnings = Beginnings()
    generator = beginnings.at(b"a stream", 0)
    expected = torch.randn(3, generator=generator)
    torch.randn(1, generator=beginnings.at(b"another", 1))
    assert torch.equal(torch.randn(3, generator=beginnings.at(b"a stream", 0)), expected)


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.large = nn.Linear(1000, 1100)
        self.rounded = nn.Linear(700, 900, dtype=torch.bfloat16)
        nn.init.normal_(self.rounded.weight, std=0.02)
        self.turned = nn.Parameter(torch.empty(500, 400).t())
        nn.init.trunc_normal_(self.turned, a=-1, b=1)
        self.small = nn.Linear(64, 64)
        self.mixed = nn.Parameter(nn.init.orthogonal_(torch.empty(70, 60)))


def test_values_do_not_depend_on_threads(threads):
    """One thread or four draw the same values; torch's own products differ in their last bits."""
    built = build(Several, seed=3)
    torch.set_num_threads(1)
    other = build(Several, seed=3)
    for name, parameter in built.named_parameters():
        assert name == "mixed" or torch.equal(parameter, other.get_parameter(name)), name


def test_values_are_of_their_distributions():
    """Blocks are drawn from the distribution of the whole."""
    built = build(Several, seed=3)
    assert abs(built.large.weight.std().item() * 3000**0.5 - 1) < 0.01
    assert built.large.weight.abs().max() <= 1000**-0.5
    assert abs(built.rounded.weight.float().std().item() - 0.02) < 2e-4
    assert built.turned.abs().max() <= 1
    assert abs(built.turned.std().item() - 0.5396) < 0.005  # of a normal cut at one deviation
    rows = built.rounded.weight.float()
    assert rows.unique(dim=0).shape == rows.shape


def test_up_to_a_block_a_draw_is_one():
    """A draw that fits into a block has one seed; a larger one does not begin alike."""
    first, second = build(nn.Linear, 32, 1 << 10, seed=0), build(nn.Linear, 32, 1025, seed=0)
    assert first.weight.numel() == BLOCK
    assert not torch.isclose(first.weight, second.weight[: 1 << 10]).all()


@pytest.mark.parametrize(
    ("size", "block"),
    [
        ((32768,), None),
        ((100_000,), 32_768),
        ((200, 300), 109 * 300),
        ((1000, 600), 125 * 600),
        ((10_000, 1000), 262 * 1000),
        ((30, 1_000_000), 1 << 18),
        ((64, 1000, 300), 109 * 300),
        ((512, 256, 3, 3), 14 * 256 * 9),
    ],
    ids=str,
)
def test_blocks_are_whole_rows(size, block):
    """A block is as many rows as fit into an eighth of a matrix, within bounds that stacks have."""
    assert block_of(torch.float32, size) == block


def test_blocks_of_half_precision():
    """What is drawn in single precision beside its values has blocks of half the size."""
    assert block_of(torch.bfloat16, (10_000, 1000)) == 131 * 1000
    assert block_of(torch.bfloat16, (1000, 600)) == 125 * 600


def block_of(dtype, size):
    draw = drawing_op(lambda: torch.empty(size, dtype=dtype).normal_())
    return getattr(in_blocks(draw, torch.device("cpu")), "block", None)


@pytest.mark.parametrize("seed", [None, 3], ids=["exact", "seeded"])
@pytest.mark.parametrize("at_once", [1, 1 << 28], ids=["one at a time", "together"])
def test_parts_in_threads(threads, seed, at_once, monkeypatch):
    """Parts of many tensors come in their order, whatever makes them, and nobody else has them."""
    monkeypatch.setattr("torchcreator._recorder.parts._AT_ONCE", at_once)
    recording = record(Several, (), {}, device=None, seed=seed, find=False)[1]
    refs = [*recording.refs.values()] * 3
    inner = [(ref, [[(n // 3, n)] for n in ref.size]) for ref in refs]
    rows = [(ref, [[(n // 5, n // 2)] for n in ref.size[:1]]) for ref in refs]
    rows = [(ref, [*first, *([(0, n)] for n in ref.size[1:])]) for ref, first in rows]
    nothing = [(ref, [[(0, 0)] for _ in ref.size]) for ref in refs[:2]]
    wished = [*inner, *rows, *nothing, *((ref, [[(0, n)] for n in ref.size]) for ref in refs)]
    parts = recording.parts(wished)
    for ref, region in wished:
        part = next(parts)
        assert torch.equal(part, recording.part(ref, region))
        held = weakref.ref(part)
        del part
        assert held() is None
    assert not [*parts]


def test_parts_that_were_reckoned_wrongly(threads, monkeypatch):
    """Where a draw takes something else than was reckoned, all parts are made again, in order."""

    def several():
        torch.manual_seed(7)
        return Several()

    recording = record(several, (), {}, device=None, seed=None, find=False)[1]
    wished = [(ref, [[(n // 3, n)] for n in ref.size]) for ref in recording.refs.values()]
    draws, restarted = type(recording.draws), []
    right = {name: getattr(draws, name) for name in ("piece", "agrees", "restart")}

    def piece(self, number, draw, first, target):
        if restarted:
            right["piece"](self, number, draw, first, target)
        else:
            target.fill_(torch.nan)

    def restart(self):
        right["restart"](self)
        restarted.append(1)

    monkeypatch.setattr(draws, "piece", piece)
    monkeypatch.setattr(draws, "agrees", lambda self: restarted and right["agrees"](self))
    monkeypatch.setattr(draws, "restart", restart)
    model = several()
    made = zip(recording.refs, wished, recording.parts(wished), strict=True)
    for name, (_, region), part in made:
        whole = model.get_parameter(name)
        assert torch.equal(part, whole[tuple(slice(*ranges[0]) for ranges in region)]), name


def test_an_error_in_a_thread(threads):
    """It is that of the parameter it happened to."""

    def wrong():
        model = nn.Sequential(*(nn.Linear(1000, 600) for _ in range(3)))
        nn.init.uniform_(model[1].weight, 2, 1)
        return model

    recording = record(wrong, (), {}, device=None, seed=0, find=False)[1]
    wished = [(ref, [[(0, n)] for n in ref.size]) for ref in recording.refs.values()]
    with pytest.raises(BuildError, match=r"Replaying uniform_ for '1\.weight' failed"):
        list(recording.parts(wished))
