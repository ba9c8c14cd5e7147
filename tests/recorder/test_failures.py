"""Whatever fails in a recording is a BuildError: what, where, and what to write instead."""

from __future__ import annotations

import copy
import pickle
import re
import threading

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import BuildError, build, defer, materialize

LINE = r"test_failures\.py:\d+"


class Layer(nn.Module):
    """A module with one layer, to which a function does something."""

    def __init__(self, work):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        work(self)


UNSEEN = {
    "data_ptr of Layer's 'layer.weight'": lambda self: self.layer.weight.data_ptr(),
    "share_memory_ of Layer's 'layer.weight'": lambda self: self.layer.share_memory(),
    "untyped_storage of Layer's 'layer.weight'": lambda self: pickle.dumps(self.layer),
    "untyped_storage of Layer's 'layer.bias'": lambda self: copy.copy(self.layer.bias.data),
    "set_ of a tensor of shape (2,)": lambda self: torch.tensor([1.0, 1.0]).set_(
        self.layer.bias.data
    ),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_what_cannot_be_recorded(what):
    """The error names the parameter by what the constructor calls it, the operation, the line."""
    with pytest.raises(BuildError, match=f"(?s)Tensor.{re.escape(what)}.*{LINE}.*build"):
        build(Layer, UNSEEN[what])


def test_torchs_own_words_of_what_cannot_be_recorded():
    """What torch says of tensors without memory is part of an error that names the line."""

    def work(self):
        with torch.device("meta"):
            self.layer.bias.data.copy_(torch.ones(2).cpu())

    with pytest.raises(BuildError, match=rf"(?s)Layer is recorded at .*{LINE}.*meta.*build"):
        build(Layer, work)


def test_a_draw_inside_vmap():
    """Torch shows no memory of a batch that it draws: the error says so, and where."""

    def work(self):
        draw = torch.func.vmap(lambda row: row * torch.rand(2), randomness="different")
        self.drawn = draw(self.layer.weight.detach())

    with pytest.raises(BuildError, match=rf"(?s){LINE}.*Cannot access storage of Batched"):
        build(Layer, work)


def test_a_replay_that_fails_while_recording():
    """A value that is asked for at once, and cannot be made, is an error in the same words."""

    def work(self):
        nn.init.normal_(self.layer.weight, std=-1.0)
        self.layer.weight.sum().item()

    with pytest.raises(BuildError, match=rf"Replaying normal_ for a tensor of shape .*{LINE}"):
        build(Layer, work)


def test_a_constructors_own_error_passes():
    """What the constructor raises itself comes as it is, whatever torch calls its tensors."""

    def work(self):
        raise RuntimeError("no such metadata")

    with pytest.raises(RuntimeError, match="no such metadata") as raised:
        build(Layer, work)
    assert not isinstance(raised.value, BuildError)


def test_a_part_that_was_deferred_before():
    """It waits for values of its own, in another recording: the error says to materialize it."""
    part = defer(nn.Linear, 2, 2, seed=0)
    for inner in (part, nn.Sequential(defer(nn.Linear, 2, 2))[0]):
        for make in (build, lambda factory: materialize(defer(factory))):
            with pytest.raises(BuildError, match=r"(?s)'0.weight' .* deferred.*materialize\(\)"):
                make(lambda inner=inner: nn.Sequential(inner, nn.Linear(2, 2)))
    materialize(part)
    built = build(lambda: nn.Sequential(part, nn.Linear(2, 2)))
    assert built[0] is part


def test_a_part_that_was_on_meta_before():
    """It has no values at all: the error says to give it memory."""
    part = nn.Linear(2, 2, device="meta")
    with pytest.raises(
        BuildError, match=r"(?s)'0.weight' has no value.*on the meta device.*memory"
    ):
        build(lambda: nn.Sequential(part))


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_another_thread_computes():
    """No recorder sees what a constructor's own threads make of its tensors: an error."""

    def work(self):
        def compute():
            self.twice = nn.Parameter(self.layer.weight.detach() * 2)

        in_a_thread(compute)

    with pytest.raises(BuildError, match=r"(?s)'twice' has no value.*in another thread"):
        build(Layer, work)


def test_what_another_thread_writes():
    """What they write to its tensors is not seen, as the guide says."""

    def work(self):
        in_a_thread(lambda: nn.init.zeros_(self.layer.weight))

    assert not Layer(work).layer.weight.any()
    assert build(Layer, work).layer.weight.all()


def test_a_deferred_model_is_not_pickled():
    """Its values are a recording, which refers to live memory."""
    with pytest.raises(BuildError, match=r"(?s)cannot be pickled.*materialize"):
        pickle.dumps(tc.defer(nn.Linear, 2, 2))
