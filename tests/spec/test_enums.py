"""The two words that a variable's behaviour on many ranks is declared with."""

from __future__ import annotations

import copy
import pickle

import pytest

import torchcreator as tc
from torchcreator import _errors

MODES = [tc.VariableSynchronization, tc.VariableAggregation]
MEMBERS = [member for mode in MODES for member in mode]
BY_NAME = [
    pytest.param(member, spelling, id=f"{type(member).__name__[8:]}.{spelling}")
    for member in MEMBERS
    for spelling in (member.name, member.name.lower(), member.name.title())
]


def test_the_members_and_their_numbers_are_tensorflows():
    """Names and numbers agree with TensorFlow's, so that saved numbers mean the same."""
    assert [(m.name, m.value) for m in tc.VariableSynchronization] == [
        ("AUTO", 0),
        ("NONE", 1),
        ("ON_WRITE", 2),
        ("ON_READ", 3),
    ]
    assert [(m.name, m.value) for m in tc.VariableAggregation] == [
        ("NONE", 0),
        ("SUM", 1),
        ("MEAN", 2),
        ("ONLY_FIRST_REPLICA", 3),
    ]


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_a_member_stands_for_itself(member):
    """A member is read as the very same member."""
    assert type(member).of(member) is member


@pytest.mark.parametrize(("member", "spelling"), BY_NAME)
def test_a_name_is_read_in_any_case(member, spelling):
    """A string names a member, whatever its case."""
    assert type(member).of(spelling) is member


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_none_is_the_default(mode):
    """None stands for the member with the number 0."""
    assert mode.of(None) is mode(0)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
@pytest.mark.parametrize(
    "value",
    ["", "on read", "average", "mean ", 0, 3, True, ["sum"]],
    ids=repr,
)
def test_what_is_neither_member_nor_name_is_refused(mode, value):
    """Numbers, near misses and other types are errors, never a guess."""
    with pytest.raises(_errors.VariableValueError, match=r"mode: .* for variable: gain") as caught:
        mode.of(value, "gain")
    assert repr(value) in str(caught.value)


def test_the_member_of_the_other_enum_is_refused():
    """NONE of one enum is not NONE of the other: the two keywords were swapped."""
    with pytest.raises(ValueError, match="Invalid variable aggregation mode: <VariableSynchroni"):
        tc.variable(1.0, aggregation=tc.VariableSynchronization.NONE)
    with pytest.raises(ValueError, match="Invalid variable synchronization mode: <VariableAggreg"):
        tc.variable(1.0, synchronization=tc.VariableAggregation.NONE)


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_copies_are_the_member_itself(member):
    """Copying and pickling keep identity, so ``is`` is the way to compare."""
    assert copy.deepcopy(member) is member
    assert pickle.loads(pickle.dumps(member)) is member
