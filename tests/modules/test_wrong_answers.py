"""Answers that no stock module can take, and creators that do other things meanwhile."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.creators import Own, changed


@pytest.mark.parametrize("answer", [torch.zeros(3, 2), "weight"], ids=["tensor", "text"])
def test_a_module_is_given_nothing_but_parameters(answer):
    """What is no nn.Parameter is refused; the error names the module and its parameter."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: answer),
        pytest.raises(TypeError, match=r"for Linear\.weight"),
    ):
        nn.Linear(2, 3)


def test_none_is_refused():
    """A creator that forgets to return is told which line it lacks."""
    with (
        tc.creator_scope(lambda next_creator, **kwargs: None),
        pytest.raises(TypeError, match=r"'weight'(.*\n)*.*return next_creator\(\*\*kwargs\)"),
    ):
        nn.Linear(2, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (3, 3)},
        {"initial_value": torch.zeros(4), "shape": None},
        {"initial_value": lambda: torch.zeros(4), "shape": None},
    ],
    ids=["declared", "value", "callable"],
)
def test_another_shape_is_refused(changes):
    """A module's forward relies on the shapes it chose: expected and actual are shown."""
    with (
        tc.creator_scope(changed(**changes)),
        pytest.raises(
            ValueError, match=r"Linear\.weight(.*\n)+.*expected: \(3, 2\)\n.*actual: +\(\d"
        ),
    ):
        nn.Linear(2, 3)


def test_a_value_of_another_shape_than_declared_is_refused():
    """A value is never broadcast to the module's shape."""
    with (
        tc.creator_scope(changed(initial_value=torch.zeros(1))),
        pytest.raises(
            ValueError, match=r"Linear\.weight(.*\n)+.*expected: \(3, 2\)\n.*actual: +\(1,\)"
        ),
    ):
        nn.Linear(2, 3)


def test_calling_next_creator_twice_needs_a_value():
    """A module waits for one parameter: a second one is a variable like any other."""
    made = []

    def twice(next_creator, **kwargs):
        first = next_creator(**kwargs)
        made.append(next_creator(**{**kwargs, "initial_value": torch.zeros(kwargs["shape"])}))
        return first

    with tc.creator_scope(twice):
        module = Own()
    assert module.w is module.made[0]
    assert made[0] is not module.w
    assert tc.spec_of(made[0]).name == "w"

    def valueless(next_creator, **kwargs):
        next_creator(**kwargs)
        return next_creator(**kwargs)

    with (
        tc.creator_scope(valueless),
        pytest.raises(ValueError, match=r"Own\.w(.*\n)*.*holds once for each parameter"),
    ):
        Own()


def test_a_creator_may_try_again():
    """After an error from ``next_creator`` the module's parameter still waits."""

    def patient(next_creator, **kwargs):
        with pytest.raises(ValueError, match=r"Own\.w"):
            next_creator(**{**kwargs, "shape": (9,)})
        with pytest.raises(ValueError, match="unknown-device"):
            next_creator(**{**kwargs, "device": "unknown-device"})
        return next_creator(**kwargs)

    with tc.creator_scope(patient):
        module = Own()
    assert module.w is module.made[0]
    assert tc.spec_of(module.w).name == "w"


def test_a_creator_may_make_other_variables_meanwhile():
    """What a creator makes beside a module's parameter does not take its place."""
    beside = []

    def creator(next_creator, **kwargs):
        if kwargs["module"] is not None and not beside:
            beside.append(None)
            beside[0] = tc.variable([1.0, 2.0], name="beside")
            beside.append(nn.Linear(1, 1))
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        module = Own()
    assert module.w is module.made[0]
    assert beside[0].tolist() == [1.0, 2.0]
    assert beside[1].weight.shape == (1, 1)


def test_a_creator_may_make_other_variables_of_the_same_module():
    """Another variable that names the same module as its owner does not take its parameter."""
    beside = []

    def creator(next_creator, **kwargs):
        if kwargs["module"] is not None and not beside:
            beside.append(None)
            beside[0] = tc.variable(5.0, name="average", module=kwargs["module"])
        return next_creator(**kwargs)

    with tc.creator_scope(creator):
        module = Own()
    assert module.w is module.made[0]
    assert beside[0].item() == 5.0
    assert beside[0] is not module.w


def test_a_creator_may_rename_a_modules_parameter(creator_scopes):
    """The spec has the creator's name; the module keeps its own, its object and its values."""

    def prefixed(next_creator, **kwargs):
        return next_creator(**{**kwargs, "name": f"encoder/{kwargs['name']}"})

    creator_scopes(prefixed)
    module = Own()
    assert module.w is module.made[0]
    assert dict(module.named_parameters()).keys() == {"w"}
    assert tc.spec_of(module.w).name == "encoder/w"


def test_a_constraint_that_is_not_defined_for_a_parameter_is_refused_at_once():
    """A ready-made constraint is held against shape and dtype where it is declared."""
    with (
        tc.creator_scope(changed(constraint=tc.constraints.Symmetric())),
        pytest.raises(TypeError, match=r"Symmetric\(\).*'Linear\.weight'.*\(3, 2\)"),
    ):
        nn.Linear(2, 3)
    with pytest.raises(TypeError, match=r"NonNeg\(\).*'spectrum'.*complex64"):
        tc.variable(torch.zeros(2, dtype=torch.complex64), name="spectrum", constraint="non_neg")


def test_a_creator_that_makes_modules_for_ever_is_told():
    """A module in a creator runs the whole chain again; the error says what to call instead."""

    def again(next_creator, **kwargs):
        return nn.Linear(1, 1).weight

    with (
        tc.creator_scope(again),
        pytest.raises(RecursionError, match=r"again made variables for ever(.*\n)*.*next_creator"),
    ):
        nn.Linear(1, 1)
    assert tc.spec_of(nn.Linear(1, 1).weight) is None


def test_an_exception_leaves_no_trace(ledger):
    """After a creator raised, modules are made as ever, inside the scope and after it."""

    def raising(next_creator, **kwargs):
        if kwargs["name"] == "bias":
            raise LookupError("no bias today")
        return next_creator(**kwargs)

    with tc.creator_scope(ledger):
        with tc.creator_scope(raising), pytest.raises(LookupError, match="today"):
            nn.Linear(2, 3)
        nn.Linear(2, 3)
    assert ledger.names == ["Linear.weight", "Linear.weight", "Linear.bias"]
    nn.Linear(2, 3)
    assert len(ledger.calls) == 3
