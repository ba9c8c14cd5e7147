"""The two words that a variable's behaviour on many ranks is declared with."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import torchcreator as tc
from torchcreator import _errors

MODES = [tc.VariableSynchronization, tc.VariableAggregation]
MEMBERS = [member for mode in MODES for member in mode]
NAMED = repr
BY_NAME = [
    pytest.param(member, spelling, id=f"{type(member).__name__[8:]}.{spelling}")
    for member in MEMBERS
    for spelling in (member.name, member.name.lower(), member.name.title())
]


def test_the_members_are_tensorflows_and_their_values_are_their_words():
    """Names agree with TensorFlow's; a member's value is what people write for it."""
    assert [m.name for m in tc.VariableSynchronization] == ["AUTO", "NONE", "ON_WRITE", "ON_READ"]
    assert [m.name for m in tc.VariableAggregation] == ["NONE", "SUM", "MEAN", "ONLY_FIRST_REPLICA"]
    assert all(m.value == m.name.lower() for m in MEMBERS)


@pytest.mark.parametrize("member", MEMBERS, ids=NAMED)
def test_a_member_equals_its_word(member):
    """A spec is compared with a word, a member is made of one, and keys of either kind meet."""
    word = member.name.lower()
    assert member == word
    assert word == member
    assert member != "on_monday"
    assert type(member)(word) is member
    assert {member: 1}[word] == 1
    assert f"{member}" == str(member) == word


def test_a_word_that_is_none_is_told():
    """A member is not made of a near miss; the error of a variable says which word is meant."""
    with pytest.raises(ValueError, match="'avg' is not a valid VariableAggregation"):
        tc.VariableAggregation("avg")
    with pytest.raises(ValueError, match=r"mode: 'avg' \(did you mean 'mean'\?\) for variable: w"):
        tc.variable(1.0, name="w", aggregation="avg")


@pytest.mark.parametrize("name", [None, _errors.UNNAMED], ids=["none", "unnamed"])
def test_an_unnamed_variable_is_not_called_variable(name):
    """An error says that the variable has no name, and invents none."""
    with pytest.raises(ValueError, match=r"mode: 'sun' .* for a variable without a name"):
        tc.VariableAggregation.of("sun", name)


@pytest.mark.parametrize("member", MEMBERS, ids=NAMED)
def test_a_member_stands_for_itself(member):
    """A member is read as the very same member."""
    assert type(member).of(member) is member


@pytest.mark.parametrize(("member", "spelling"), BY_NAME)
def test_a_name_is_read_in_any_case(member, spelling):
    """A string names a member, whatever its case."""
    assert type(member).of(spelling) is member


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_none_is_the_default(mode):
    """None stands for the first member."""
    assert mode.of(None) is next(iter(mode))


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


@pytest.mark.parametrize("member", MEMBERS, ids=NAMED)
def test_copies_are_the_member_itself(member):
    """Copying and pickling keep identity, so ``is`` is the way to compare."""
    assert copy.deepcopy(member) is member
    assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize("member", MEMBERS, ids=NAMED)
def test_a_member_is_loaded_with_weights_only(member, tmp_path):
    """Torch reads a saved member without being told that it is safe."""
    torch.save(member, tmp_path / "member.pt")
    assert torch.load(tmp_path / "member.pt", weights_only=True) is member
