"""What is logged as it is called equals what goes through torch's dispatcher."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.build.same import assert_same_model
from torchcreator._build.build import build, defer
from torchcreator._call_site import Line
from torchcreator._errors import BuildError
from torchcreator._recorder.fast_paths import SHORTCUTS
from torchcreator._recorder.origins import DEFERRED
from torchcreator._recorder.pytree import META


class Passing(TorchFunctionMode):
    """A mode beneath the recorder's: while it is there, every call is dispatched."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Holding(nn.Module):
    """Holds what a function returned."""

    def __init__(self, make):
        super().__init__()
        self.w = nn.Parameter(make())


def filled(fill):
    def make():
        w = torch.zeros(4, 3)
        fill(w)
        return w

    return make


def converted(make):
    return lambda: make().float()


MAKERS = {
    "zeros": lambda: torch.zeros(4, 3),
    "zeros of a list": lambda: torch.zeros([4, 3]),
    "zeros of a size": lambda: torch.zeros(torch.Size((4, 3)), dtype=torch.float64),
    "ones on a device": lambda: torch.ones(4, 3, device="cpu"),
    "ones of nothing": lambda: torch.ones(()),
    "ones of no length": lambda: torch.ones(0, 3),
    "ones with an option": lambda: torch.ones(2, 3, 4, 5, requires_grad=True).detach(),
    "ones into": lambda: torch.ones(4, 3, out=torch.empty(4, 3)),
    "rand": lambda: torch.rand(4, 3),
    "randn": lambda: torch.randn((4, 3), dtype=torch.float64),
    "randn half": converted(lambda: torch.randn(4, 3, dtype=torch.bfloat16)),
    "fill_": filled(lambda w: w.fill_(2)),
    "fill_ with a tensor": filled(lambda w: w.fill_(torch.tensor(3.0))),
    "zero_": filled(lambda w: w.zero_()),
    "normal_": filled(lambda w: w.normal_(1, 2)),
    "normal_ by words": filled(lambda w: w.normal_(mean=1.0, std=2.0)),
    "uniform_": filled(lambda w: w.uniform_(-1, 1)),
    "uniform_ of a part": filled(lambda w: w[1:].t().uniform_()),
    "generator": filled(lambda w: w.uniform_(generator=torch.Generator().manual_seed(1))),
    "constant_": filled(lambda w: nn.init.constant_(w, 0.5)),
    "init normal_": filled(lambda w: nn.init.normal_(w, std=0.02)),
    "init uniform_": filled(lambda w: nn.init.uniform_(w, -1, 1)),
    "init generator": filled(
        lambda w: nn.init.uniform_(w, generator=torch.Generator().manual_seed(1))
    ),
    "kaiming": filled(lambda w: nn.init.kaiming_uniform_(w, a=5**0.5)),
    "kaiming of a view": filled(lambda w: nn.init.kaiming_uniform_(w.t(), mode="fan_out")),
    "kaiming relu": filled(lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")),
}


@pytest.mark.parametrize("seed", [None, 3], ids=["exact", "seeded"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_shortcut_changes_nothing(name, seed):
    """A model is the same whether its calls take the shortcut or the dispatcher."""
    torch.manual_seed(0)
    short = build(Holding, MAKERS[name], seed=seed)
    torch.manual_seed(0)
    with Passing():
        dispatched = build(Holding, MAKERS[name], seed=seed)
    assert_same_model(short, dispatched)
    if seed is None:
        torch.manual_seed(0)
        assert_same_model(short, Holding(MAKERS[name]))


def test_shortcuts_are_taken():
    """Every shortcut is one that a constructor of this page took: none is stale."""
    taken = set()

    def noting(func, shortcut):
        def note(*call):
            result = shortcut(*call)
            if result is not NotImplemented:
                taken.add(func)
            return result

        return note

    with pytest.MonkeyPatch.context() as patch:
        for func, shortcut in SHORTCUTS.items():
            patch.setitem(SHORTCUTS, func, noting(func, shortcut))
        for make in [*MAKERS.values(), filled(lambda w: torch.empty(2))]:
            defer(Holding, make)
    assert taken == set(SHORTCUTS)


def test_other_modes_see_every_call():
    """A mode that the constructor opens, or that was open before, sees what it is there to see."""
    seen = []

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    def inside():
        with Noting():
            return nn.Linear(2, 2)

    build(inside)
    assert torch.ops.aten.empty.memory_format in seen
    seen.clear()
    with Noting():
        build(nn.Linear, 2, 2)
    assert torch.ops.aten.empty.memory_format in seen


def test_a_default_device_is_seen():
    """A default device set beneath decides where a tensor is to be."""
    with torch.device("cpu"):
        assert build(nn.Linear, 2, 2).weight.device.type == "cpu"
    assert build(lambda: Holding(lambda: torch.empty(2, device=META))).w.is_meta


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: torch.zeros(-1), RuntimeError, "negative"),
        (lambda: torch.zeros(), TypeError, "zeros"),
        (lambda: nn.Parameter(torch.zeros(2)).fill_(1), RuntimeError, "in-place"),
        (lambda: torch.zeros(2).normal_("wide"), TypeError, "normal_"),
        (lambda: torch.zeros(2).normal_(1.0, mean=2.0), TypeError, "normal_"),
        (lambda: torch.zeros(2).normal_(width=2.0), TypeError, "normal_"),
        (lambda: torch.zeros(2).uniform_(1, 2, 3), TypeError, "uniform_"),
        (lambda: torch.zeros(2).fill_(), TypeError, "fill_"),
        (lambda: nn.init.constant_(torch.zeros(2), "wide"), TypeError, "fill_"),
        (lambda: nn.init.kaiming_uniform_(torch.zeros(2)), ValueError, "Fan in and fan out"),
        (
            lambda: nn.init.kaiming_uniform_(torch.zeros(2, 2), nonlinearity="none"),
            ValueError,
            "Unsupported nonlinearity",
        ),
    ],
    ids=[
        *("a negative size", "no size", "a leaf in place"),
        *("a word for a mean", "the mean twice", "an unknown keyword"),
        *("too many bounds", "nothing to fill with", "a word to fill with"),
        *("no fans", "an unknown nonlinearity"),
    ],
)
def test_mistakes_are_torchs_own(call, error, match):
    """A constructor's mistake raises what it raises without a build."""
    with pytest.raises(error, match=match):
        call()
    with pytest.raises(error, match=match):
        build(lambda: Holding(call))


def test_a_list_of_lengths_is_the_callers():
    """What the caller does to the list that it passed as a size changes nothing."""

    def make():
        size = [2, 3]
        w = torch.ones(size)
        size.clear()
        return w

    assert build(Holding, make).w.tolist() == [[1.0] * 3] * 2


def test_a_draw_before_that_fails_is_the_one_named():
    """A draw that cannot be replayed since one before it fails names that one, and its line."""

    def fill(w):
        torch.empty(3).normal_(0, -1)
        w.uniform_()

    with pytest.raises(BuildError, match=r"Replaying normal_ for 'w' failed"):
        build(Holding, filled(fill))


def test_an_empty_kaiming_warns():
    """A warning of torch's comes while the constructor runs."""
    with pytest.warns(UserWarning, match="zero-element"):
        defer(lambda: Holding(filled(lambda w: nn.init.kaiming_uniform_(w[:0]))))


def test_mapped_tensors_are_dispatched():
    """Under vmap a tensor has no storage of its own; its fills reach the whole."""

    def make():
        w = torch.zeros(4, 3)
        torch.vmap(lambda row: row.fill_(2.0))(w)
        return w

    assert build(Holding, make).w.tolist() == [[2.0] * 3] * 4


def test_inference_tensors_are_dispatched():
    """An inference tensor may not be written outside inference mode: torch says so."""

    def make():
        with torch.inference_mode():
            w = torch.zeros(2)
        return w.fill_(1.0)

    with pytest.raises(RuntimeError, match="inference"):
        build(Holding, make)


def test_a_line_knows_its_number():
    """A place, noted cheaply, becomes the line that the frame was at."""
    frame = sys._getframe()
    line, number = Line(frame.f_code, frame.f_lasti), frame.f_lineno
    assert str(line) == f"{__file__}:{number}"
    assert Line(frame.f_code, 1 << 20).number == frame.f_code.co_firstlineno


def test_one_operation_each():
    """A layer's two parameters are four operations on the tape, each of the line that made it."""
    tape = defer(lambda: nn.Linear(2, 2)).__dict__[DEFERRED].recording.tape
    assert [op.name for op in tape.ops] == ["empty", "empty", "kaiming_uniform_", "uniform_"]
    assert {op.line.file for op in tape.ops} == {__file__}


def test_a_failing_shortcut_names_its_line():
    """What fails on replay is told by the operation and the line, as for any other."""
    with pytest.raises(BuildError, match=r"Replaying normal_ for 'w' failed.*test_fast_paths"):
        build(Holding, filled(lambda w: w.normal_(0, -1)))
