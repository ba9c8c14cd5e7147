"""What each creator of the chain changed is told, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.report.chains import Gain, decisions, inside, under
from tests.report.models import bounded, frozen, summed


@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
def test_a_creator_that_answers_is_told(around):
    """It made the parameter itself; creators further out were not asked."""

    def answering(next_creator, **kwargs):
        return tc.default_creator(initial_value=torch.zeros(2), trainable=False)

    if around:
        inventory = under(frozen, answering)
    else:
        inventory = tc.inspect(inside(frozen, answering, made=Gain))
    (decision,) = inventory["weight"].decisions
    assert (decision.creator, decision.answered, decision.changed) == ("answering", True, {})
    assert str(decision) == "answering: answered itself"


def test_a_creator_that_steps_in_is_told():
    """One that makes the parameter itself when the next one fails has answered, too."""

    def failing(next_creator, **kwargs):
        raise ZeroDivisionError

    def careful(next_creator, **kwargs):
        try:
            return next_creator(**{**kwargs, "aggregation": "sum"})
        except ZeroDivisionError:
            return tc.default_creator(**{**kwargs, "device": "cpu"})

    (decision,) = tc.inspect(inside(failing, careful, made=Gain))["weight"].decisions
    assert (decision.creator, decision.answered, decision.changed) == ("careful", True, {})


def test_tags_that_are_written_into_are_told():
    """A creator need not copy the tags to be told of."""

    def writing(next_creator, **kwargs):
        kwargs["tags"]["stage"] = 2
        return next_creator(**kwargs)

    def tagged():
        model = nn.Module()
        model.gain = tc.variable([1.0], tags={"stage": 1})
        return model

    row = tc.inspect(inside(writing, made=tagged))["gain"]
    assert decisions(row) == ["writing: tags.stage 1 -> 2"]


def test_what_is_changed_on_the_way_back_is_told():
    """A creator may change, or replace, what the next one returned."""

    def froze(next_creator, **kwargs):
        return next_creator(**kwargs).requires_grad_(False)

    def replaced(next_creator, **kwargs):
        return nn.Parameter(next_creator(**kwargs).detach().double())

    with tc.creator_scope(froze):
        assert decisions(tc.inspect(nn.LayerNorm, 2)["bias"]) == ["froze: trainable True -> False"]
    with tc.creator_scope(replaced):
        row = tc.inspect(nn.LayerNorm, 2)["bias"]
    assert decisions(row) == ["replaced: parameter Parameter float32 -> Parameter float64"]
    assert row.dtype == torch.float64


def test_dropped_keywords_are_told_by_what_they_become():
    """What a creator does not hand on takes its default; what is worked out is no change."""

    def dropping(next_creator, *, initial_value, name, module, **dropped):
        return next_creator(initial_value=initial_value, name=name, module=module)

    inventory = tc.inspect(
        inside(dropping, bounded, made=lambda: nn.ParameterList([nn.Parameter(torch.ones(2))]))
    )
    assert decisions(inventory["0"])[-1] == (
        "dropping: constraint MaxNorm(max_value=1.0, dim=None) -> None"
    )


def test_only_the_last_of_several_calls_counts():
    """A creator that calls on twice is told by the call whose result it could return last."""

    def twice(next_creator, **kwargs):
        next_creator(**{**kwargs, "aggregation": "mean"})
        return next_creator(**kwargs)

    for inventory in (
        tc.inspect(inside(frozen, summed, twice, made=Gain)),
        under(frozen, summed, twice, made=Gain),
    ):
        assert decisions(inventory["weight"]) == [
            "summed: aggregation NONE -> SUM",
            "frozen: trainable True -> False",
        ]


def test_variables_that_creators_make_on_the_side_do_not_mix():
    """A creator, and an initial value, may make variables of their own."""

    def helped(next_creator, **kwargs):
        if kwargs["name"] != "helper":
            tc.variable(1.0, name="helper")
            kwargs["constraint"] = "non_neg"
            kwargs["initial_value"] = lambda: tc.variable([1.0, 2.0], name="helper").detach()
        return next_creator(**kwargs)

    for inventory in (tc.inspect(inside(frozen, helped)), under(frozen, helped)):
        assert [row.name for row in inventory] == ["weight", "bias"]
        for row in inventory:
            own, outer = decisions(row)
            assert own.startswith("helped: ")
            assert "constraint None -> NonNeg()" in own
            assert outer == "frozen: trainable True -> False"


def test_copies_of_a_prototype_have_its_decisions():
    """An encoder of torch copies a layer; the copies were decided about with it."""
    layer = nn.TransformerEncoderLayer
    inventory = tc.inspect(
        inside(
            frozen,
            made=lambda: nn.TransformerEncoder(layer(4, 1, 8), 3, enable_nested_tensor=False),
        )
    )
    assert len(inventory) == 36
    assert {tuple(decisions(row)) for row in inventory} == {("frozen: trainable True -> False",)}
