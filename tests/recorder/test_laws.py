"""Laws of recording and replay, on random constructors."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.build.same import assert_same_model
from torchcreator._build.build import build
from torchcreator._recorder.recording import record

TENSORS = 4


def _draw(ts, i, j):
    ts[i].normal_()


def _draw_part(ts, i, j):
    ts[i][1:3].uniform_()


def _draw_new(ts, i, j):
    ts[i] = torch.randn(4, 3)


def _draw_from(ts, i, j):
    ts[i] = torch.bernoulli(ts[j].sigmoid())


def _truncated(ts, i, j):
    nn.init.trunc_normal_(ts[i])


def _fill(ts, i, j):
    ts[i].fill_(2.0)


def _copy(ts, i, j):
    ts[i].copy_(ts[j])


def _copy_part(ts, i, j):
    ts[i][:2] = ts[j][2:] * 2


def _add(ts, i, j):
    ts[i].add_(ts[j])


def _new(ts, i, j):
    ts[i] = ts[i] * 0.5 + ts[j]


def _alias(ts, i, j):
    ts[i] = ts[j]


def _clone(ts, i, j):
    ts[i] = ts[j].clone()


def _transposed(ts, i, j):
    ts[i].t().view(3, 4)[0].exponential_()


def _out(ts, i, j):
    torch.sin(ts[j], out=ts[i])


def _seen(ts, i, j):
    if float(ts[i].sum()) > 0:
        ts[j].mul_(-1)


def _masked(ts, i, j):
    ts[i][ts[j] > 0] = 1.0


def _seed(ts, i, j):
    torch.manual_seed(i)


def _real(ts, i, j):
    ts[i].copy_(torch.tensor([1.0, 2.0, 3.0]).normal_())


STEPS = [
    *(_draw, _draw_part, _draw_new, _draw_from, _truncated, _fill, _copy, _copy_part, _add, _new),
    *(_alias, _clone, _transposed, _out, _seen, _masked, _seed, _real),
]
programs = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, TENSORS - 1), st.integers(0, TENSORS - 1)),
    max_size=14,
)


class Program(nn.Module):
    """Runs a random program over a few tensors and keeps them, as buffers and parameters."""

    def __init__(self, steps):
        super().__init__()
        tensors = [torch.zeros(4, 3) for _ in range(TENSORS)]
        for step, i, j in steps:
            step(tensors, i, j)
        for number, tensor in enumerate(tensors):
            self.register_buffer(f"b{number}", tensor)
            self.register_parameter(f"p{number}", nn.Parameter(tensor))


@settings(max_examples=60)
@given(programs)
@example(steps=[(_truncated, 0, 0), (_draw, 1, 0), (_fill, 1, 0)])  # drawn before it was counted
def test_replay_equals_construction(steps):
    """Replay equals construction bit for bit, the generator's state and shared memory included."""
    torch.manual_seed(0)
    plain = Program(steps)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    built = build(Program, steps)
    assert torch.equal(torch.get_rng_state(), after)
    assert_same_model(built, plain)


@settings(max_examples=40)
@given(programs, st.permutations(range(TENSORS)), st.booleans())
def test_any_order_and_any_number_of_times(steps, order, seeded):
    """Values do not depend on the order in which they are asked for, or on how often."""
    seed = 3 if seeded else None
    torch.manual_seed(0)
    built = build(Program, steps, seed=seed)
    torch.manual_seed(0)
    _, recording, _ = record(Program, (steps,), {}, device=None, seed=seed, find=False)
    for number in (*order, *order):
        name = f"b{number}"
        assert torch.equal(recording.value(recording.refs[name]), built.get_buffer(name))


@settings(max_examples=60)
@given(programs, st.booleans(), st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(0, 3)] * 2))
def test_a_part_is_a_part_of_the_whole(steps, seeded, ends):
    """Any part of a value, made by itself, is that part of the whole, bit for bit."""
    torch.manual_seed(0)
    seed = 3 if seeded else None
    _, recording, _ = record(Program, (steps,), {}, device=None, seed=seed, find=False)
    (top, bottom), (left, right) = sorted(ends[:2]), sorted(ends[2:])
    for ref in recording.refs.values():
        part = recording.part(ref, [[(top, bottom)], [(left, right)]])
        assert torch.equal(part, recording.value(ref)[top:bottom, left:right])


@settings(max_examples=40)
@given(programs)
def test_a_slice_holds_what_is_needed_and_no_more(steps):
    """An operation of a slice is read by a later one, or writes what is asked for."""
    _, recording, _ = record(Program, (steps,), {}, device=None, seed=0, find=False)
    tape = recording.tape
    for ref in recording.refs.values():
        numbers = tape.slice([ref.storage])
        assert numbers == sorted(set(numbers))
        needed = {ref.storage}
        for number in reversed(numbers):
            op = tape.ops[number]
            assert needed & set(op.writes)
            needed -= set(op.whole)
            needed |= set(op.reads)
        assert not needed
