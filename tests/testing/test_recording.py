"""A creator that keeps its own ledger."""

from __future__ import annotations

from torch import nn

import torchcreator as tc
from torchcreator.testing import RecordingCreator


def test_everything_is_written_down_and_nothing_changed(creator_scopes):
    """Names, shapes, owners and order are written down, and the creators that were asked."""

    def frozen(next_creator, **kwargs):
        return next_creator(**{**kwargs, "trainable": False})

    creator_scopes(frozen)
    recording = creator_scopes(RecordingCreator())
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    gain = tc.variable(1.0, name="gain")
    assert not gain.requires_grad
    assert not model[0].weight.requires_grad
    assert [(entry.name, entry.shape, entry.module) for entry in recording.ledger] == [
        ("0.weight", (3, 2), nn.Linear),
        ("0.bias", (3,), nn.Linear),
        ("1.weight", (3,), nn.LayerNorm),
        ("1.bias", (3,), nn.LayerNorm),
        ("gain", (), None),
    ]
    assert {entry.changed["trainable"] for entry in recording.ledger} == {(None, False)}
    assert recording.ledger[0].creators[0] == "RecordingCreator()"
    assert recording.ledger[0].creators[1].endswith("frozen")


def test_the_ledger_of_the_fixture_is_one(recorded_variables):
    """The fixture's ledger is what a RecordingCreator keeps."""
    nn.Linear(2, 3)
    recorded_variables.assert_created("*", count=2)
