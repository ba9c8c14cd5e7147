"""Exact builds: skipped, cut, reordered and in threads, and still bit for bit the plain model."""

from __future__ import annotations

import time
import warnings

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.constructors import CONSTRUCTORS
from tests.build.same import assert_same_model, assert_same_tensor, tensors_of
from tests.build.torture import STARTS, Torture
from torchcreator._recorder import rng_probes, rng_spots
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_probes import UnknownDrawWarning


def plainly(factory, start):
    STARTS[start]()
    return factory(), torch.get_rng_state()


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("start", STARTS)
def test_torture(start, number, threads, cut):
    """The worst model is the plain one from every state of the generator, in any threads."""
    threads(number)  # products, too, depend on it
    plain, after = plainly(Torture, start)
    STARTS[start]()
    assert_same_model(tc.build(Torture), plain)
    assert torch.equal(torch.get_rng_state(), after)
    STARTS[start]()
    assert_same_model(tc.materialize(tc.defer(Torture)), plain)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("name", CONSTRUCTORS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_cut(name, threads, cut):
    """Every constructor that is tested is the plain one, too, where it is cut for threads."""
    threads(3)
    torch.manual_seed(0)
    plain, after = CONSTRUCTORS[name](), torch.get_rng_state()
    torch.manual_seed(0)
    assert_same_model(tc.build(CONSTRUCTORS[name]), plain)
    assert torch.equal(torch.get_rng_state(), after)


NAMES = [name for name, _ in Torture().named_parameters()]
REFUSED = {
    "none": set(),
    "all": set(NAMES),
    "every other": set(NAMES[::2]),
    "the first half": set(NAMES[: len(NAMES) // 2]),
    "the last half": set(NAMES[len(NAMES) // 2 :]),
    "all but a large one": set(NAMES) - {"embed.weight"},
}


def on_meta(next_creator, **kwargs):
    return next_creator(**{**kwargs, "device": "meta"})


def zeros(next_creator, **kwargs):
    return next_creator(
        **{**kwargs, "initial_value": torch.zeros(kwargs["shape"], dtype=kwargs["dtype"])}
    )


def own(next_creator, **kwargs):
    return nn.Parameter(torch.zeros(kwargs["shape"], dtype=kwargs["dtype"]))


@pytest.mark.parametrize("answer", [on_meta, zeros, own], ids=lambda answer: answer.__name__)
@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("start", ["fresh", "a normal value waits"])
def test_whatever_creators_refuse(answer, refused, start, threads, cut):
    """What creators refuse changes neither the other values nor the generator's state."""
    threads(2)
    plain, after = plainly(Torture, start)
    expected = tensors_of(plain)

    def refuse(next_creator, **kwargs):
        chosen = kwargs["name"] in REFUSED[refused]
        return answer(next_creator, **kwargs) if chosen else next_creator(**kwargs)

    STARTS[start]()
    with tc.creator_scope(refuse):
        built = tc.build(Torture)
    assert torch.equal(torch.get_rng_state(), after)
    for name, tensor in tensors_of(built).items():
        if name not in REFUSED[refused]:
            assert_same_tensor(name, tensor, expected[name])


def test_in_any_order(cut, threads):
    """Creators that ask for values in another order, and twice, get the same ones."""
    threads(2)
    plain, after = plainly(Torture, "used")
    expected = tensors_of(plain)
    waiting = {}

    def gather(next_creator, **kwargs):
        waiting[kwargs["name"]] = kwargs["initial_value"]
        return next_creator(**kwargs)

    def backwards(next_creator, **kwargs):
        if kwargs["name"] == NAMES[-1]:
            for name in [*reversed(NAMES[:-1]), *NAMES[:5]]:
                assert torch.equal(waiting[name](), expected[name])
        return next_creator(**kwargs)

    STARTS["used"]()
    with tc.creator_scope(gather, backwards):
        assert_same_model(tc.build(Torture), plain)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(tc.creators.meta(), id="meta"),
        pytest.param(lambda next_creator, **kwargs: nn.Parameter(torch.zeros(0)), id="own"),
    ],
)
def test_refused_costs_nothing(answer):
    """A layer of four terabytes that a creator refuses costs neither memory nor time."""
    torch.manual_seed(0)
    begin = time.thread_time()
    with tc.creator_scope(answer):
        tc.build(nn.Linear, 10**6, 10**6)
    assert time.thread_time() - begin < 1.0
    once = torch.get_rng_state()
    torch.manual_seed(0)
    with tc.creator_scope(answer):
        for _ in range(4):
            tc.build(nn.Linear, 10**6, 10**6 // 4)
    assert torch.equal(torch.get_rng_state(), once)  # four quarters


def test_refused_large_ones_leave_the_right_state():
    """The state after ten million numbers that nobody drew is the one after drawing them."""
    torch.manual_seed(0)
    nn.Linear(3000, 3333)
    expected = torch.get_rng_state()
    torch.manual_seed(0)
    with tc.creator_scope(tc.creators.meta()):
        tc.build(nn.Linear, 3000, 3333)
    assert torch.equal(torch.get_rng_state(), expected)


class Wide(nn.Module):
    """Dead draws between live ones, large enough to be jumped over and cut."""

    def __init__(self, layers=6, width=700):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width + 1) for _ in range(layers))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)
        self.embed = nn.Embedding(3001, 701)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_large(number, threads):
    """Large layers, cut for threads as they are in practice, are the plain ones."""
    plain, after = plainly(Wide, "used")
    threads(number)
    STARTS["used"]()
    assert_same_model(tc.build(Wide), plain)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_seeded_values_are_those_of_one_thread(number, threads):
    """A seeded model has the same values however its tensors are cut."""
    threads(1)
    alone = tc.build(Wide, seed=0)
    threads(number)
    assert_same_model(tc.build(Wide, seed=0), alone)


@pytest.mark.parametrize("name", ["uniform_", "normal_"])
@pytest.mark.parametrize("wrong", [1, 624], ids=["elsewhere in a block", "a block further"])
@pytest.mark.parametrize("kept", [64, 0], ids=["states are kept", "room for none"])
def test_a_wrong_count(name, wrong, kept, threads, monkeypatch):
    """Where an operation takes something else than its probe, all is drawn again in order."""
    monkeypatch.setattr(rng_spots, "_KEPT", kept)
    right = rng_probes.draw_of

    def more(op):
        draw = right(op)
        if draw is not None and rng_probes.name_of(op) == name and draw.elements > 10_000:
            return draw._replace(outputs=draw.outputs + wrong)
        return draw

    monkeypatch.setattr(rng_probes, "draw_of", more)
    monkeypatch.setattr(rng_probes, "_told", set())
    monkeypatch.setattr(rng_probes, "READ_ON", (2, 10))  # an older torch is told nothing
    factory = {"uniform_": Uniforms, "normal_": Normals}[name]
    plain, after = plainly(factory, "used")
    threads(2)
    STARTS["used"]()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        built = tc.build(factory)
    assert_same_model(built, plain)
    assert torch.equal(torch.get_rng_state(), after)

    messages = [str(warning.message) for warning in told]
    assert len(messages) <= 1
    if wrong % 624 or messages:  # else no part may have begun before the one before it had ended
        assert f"{name} draws otherwise on torch" in messages[0]
        assert told[0].category is UnknownDrawWarning


class Uniforms(nn.Module):
    def __init__(self):
        super().__init__()
        for number in range(6):
            self.register_parameter(f"w{number}", nn.Parameter(torch.empty(600, 900).uniform_()))


class Normals(nn.Module):
    def __init__(self):
        super().__init__()
        for number in range(6):
            self.register_parameter(f"w{number}", nn.Parameter(torch.empty(600, 900).normal_()))


def test_draws_tell_their_pieces():
    """A draw that may be cut is drawn in pieces as in one."""
    draw = Draw(64, 64, 0, 1.0, 1, 1, fill=torch.Tensor.uniform_, numbers=(0.0, 1.0))
    whole, halves = torch.empty(64), torch.empty(64)
    draw.run(whole, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    draw.run(halves[:20], generator)
    draw.run(halves[20:], generator)
    assert torch.equal(whole, halves)
