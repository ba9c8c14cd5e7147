"""`declare` sets any keywords, and what else sets keywords is a line on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import build
from torchcreator.creators import aggregate, constrain, declare, freeze, local, on

BOTH = pytest.mark.parametrize("make", [lambda f, *args: f(*args), build], ids=["scope", "build"])

SETTABLE = {
    "trainable": (False, lambda p: not p.requires_grad),
    "dtype": (torch.float64, lambda p: p.dtype == torch.float64),
    "device": ("meta", lambda p: p.is_meta),
    "constraint": ("non_neg", lambda p: tc.spec_of(p).constraint == tc.constraints.NonNeg()),
    "synchronization": ("on_write", lambda p: tc.spec_of(p).synchronization == "on_write"),
    "aggregation": ("sum", lambda p: tc.spec_of(p).aggregation == "sum"),
    "caching_device": ("cpu", lambda p: tc.spec_of(p).caching_device == torch.device("cpu")),
    "tags": ({"role": "gate"}, lambda p: tc.spec_of(p).tags == {"role": "gate"}),
    "initial_value": (lambda: torch.ones(3, 2), lambda p: bool((p == 1).all())),
}


@pytest.mark.parametrize("keyword", SETTABLE)
@BOTH
def test_a_keyword_is_declared(keyword, make):
    """What is declared is what the parameter becomes, in a scope and in a build."""
    value, holds = SETTABLE[keyword]
    with tc.creator_scope(declare(**{keyword: value}, name="weight")):
        layer = make(nn.Linear, 2, 3)
    assert holds(layer.weight)
    assert not holds(layer.bias)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (freeze, declare(trainable=False)),
        (local, declare(synchronization="none")),
        (lambda: on("meta"), declare(device="meta")),
        (lambda: constrain("non_neg"), declare(constraint="non_neg")),
        (lambda: aggregate("sum"), declare(aggregation="sum")),
    ],
    ids=["freeze", "local", "on", "constrain", "aggregate"],
)
def test_the_ready_made_ones_are_one_line(one, other):
    """A ready-made creator declares what the same keywords do."""
    specs = []
    for creator in (one(), other):
        with tc.creator_scope(creator):
            specs.append(tc.spec_of(nn.Linear(2, 3).weight))
    assert specs[0] == specs[1]


def test_tags_are_added():
    """A variable keeps its own tags, but for one of the same name."""
    with tc.creator_scope(declare(tags={"role": "gate", "seen": True})):
        gain = tc.variable(1.0, tags={"role": "expert", "decay": False})
    assert tc.spec_of(gain).tags == {"role": "gate", "seen": True, "decay": False}


def test_what_is_declared_elsewhere_is_left_alone():
    """The caller's own mapping is neither kept nor changed."""
    tags = {"role": "gate"}
    creator = declare(tags=tags)
    tags["role"] = "other"
    with tc.creator_scope(creator):
        assert tc.spec_of(tc.variable(1.0)).tags == {"role": "gate"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "declare got no keyword"),
        ({"name": "*.bias"}, "declare got {'name'"),
        ({"requires_grad": False}, r"'requires_grad' \(did you mean 'trainable'\?\)"),
        ({"agregation": "sum"}, r"'agregation' \(did you mean 'aggregation'\?\)"),
        ({"trainable": 1}, "declare got trainable=1"),
        ({"aggregation": "avg"}, r"declare got the aggregation 'avg' \(did you mean 'mean'"),
        ({"constraint": "maxnrm"}, "declare"),
        ({"device": "gpu"}, r"declare got the device 'gpu' \(did you mean 'cuda'\?\)"),
        ({"tags": "gate"}, "declare got tags='gate'"),
        ({"trainable": False, "nme": "*"}, "'nme'"),
    ],
    ids=lambda value: "-".join(value) or "nothing" if isinstance(value, dict) else None,
)
def test_wrong_keywords_are_refused_where_they_are_written(keywords, message):
    """None waits for the first variable."""
    with pytest.raises(tc.TorchCreatorError, match=message) as caught:
        declare(**keywords)
    assert len([part for part in caught.value.args if part]) == 3


@pytest.mark.parametrize("device", ["gpu", "cudaa:0", ""], ids=["gpu", "misspelt", "empty"])
def test_a_device_that_no_machine_has_is_refused_where_it_is_written(device):
    """``on`` does not wait for the first variable; a machine without CUDA may still name it."""
    with pytest.raises(ValueError, match="on got the device"):
        on(device)
    on("cuda:1")


def test_no_device_is_refused():
    """``on(None)`` would do nothing."""
    with pytest.raises(TypeError, match=r"on got None\."):
        on(None)
