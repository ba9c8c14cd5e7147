"""Creators that watch: progress and prohibition (the ledger has tests of its own)."""

from __future__ import annotations

import re
import sys

import pytest
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import forbid, progress


@pytest.mark.parametrize(
    "make", [nn.Linear, lambda *args: build(nn.Linear, *args)], ids=["scope", "build"]
)
def test_nothing_is_made_inside_forbid(make):
    """Stock parameters and variables are refused, with name and reason."""
    with tc.creator_scope(forbid(reason="Evaluation makes no parameters.")):
        with pytest.raises(RuntimeError, match=r"'weight' of Linear.*\nEvaluation makes no"):
            make(2, 3)
        with pytest.raises(RuntimeError, match="Variable without a name was about to be made"):
            tc.variable(1.0)


def test_tensors_and_ties_may_be_made_inside_forbid():
    """What is no new variable is left alone."""
    layer = nn.Linear(2, 2)
    with tc.creator_scope(forbid()):
        module = nn.Module()
        module.weight = layer.weight
        module.child = layer
    assert module.weight is layer.weight


class Terminal:
    """Stands for a standard error that is, or is not, a terminal."""

    def __init__(self, seen):
        self.seen = seen
        self.text = ""

    def isatty(self):
        return self.seen

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


def stand_in(monkeypatch, *, seen=True):
    """Put a stand-in in the place of standard error, in the test itself: pytest puts its own."""
    terminal = Terminal(seen)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_progress_is_silent_without_a_terminal(monkeypatch):
    """A log file gets no bar."""
    terminal = stand_in(monkeypatch, seen=False)
    with tc.creator_scope(progress()):
        build(nn.Linear, 2, 3)
        nn.Linear(2, 3)
    assert terminal.text == ""


def test_progress_reaches_its_end_in_a_build(monkeypatch):
    """The bar ends at the number of parameters."""
    terminal = stand_in(monkeypatch)
    with tc.creator_scope(progress(title="layers")):
        build(lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
    assert re.search(r"layers: 100%.* 4/4", terminal.text)


def test_progress_counts_in_a_plain_scope(monkeypatch):
    """Nobody says how many there will be, so it counts."""
    terminal = stand_in(monkeypatch)
    with tc.creator_scope(progress()):
        nn.Linear(2, 3)
    assert "\rparameters: 1\rparameters: 2" in terminal.text


def test_a_bar_is_closed_when_the_build_fails(monkeypatch):
    """An error in another creator leaves the bar where it was, and the next one begins anew."""
    terminal = stand_in(monkeypatch)
    reporting = progress()

    def failing(next_creator, **kwargs):
        if kwargs["name"] == "bias":
            raise ValueError("no bias")
        return next_creator(**kwargs)

    with (
        tc.creator_scope(failing),
        tc.creator_scope(reporting),
        pytest.raises(ValueError, match="no bias"),
    ):
        build(nn.Linear, 2, 3)
    assert re.search(r"parameters:  50%.* 1/2 .*\n$", terminal.text)
    with tc.creator_scope(reporting):
        build(nn.Linear, 2, 3)
    assert re.search(r"parameters: 100%.* 2/2 .*\n$", terminal.text)


def test_progress_without_tqdm_says_what_to_install(monkeypatch):
    """On a terminal, none to draw the bar is an error with the remedy."""
    stand_in(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install tqdm"):
        progress()
