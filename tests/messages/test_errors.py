"""Every error of this library has one form, and is also the built-in that it specialises."""

from __future__ import annotations

import copy
import pickle

import pytest

import torchcreator as tc
from torchcreator import _errors

KINDS = {
    _errors.VariableTypeError: TypeError,
    _errors.VariableValueError: ValueError,
    _errors.CreatorResultError: TypeError,
    _errors.CreatorRecursionError: RecursionError,
    _errors.ScopeError: RuntimeError,
    _errors.ConstraintError: RuntimeError,
    _errors.BuildError: RuntimeError,
    _errors.CheckpointError: RuntimeError,
    _errors.ForbiddenError: RuntimeError,
    _errors.DistributedError: RuntimeError,
    _errors.MissingExtraError: ImportError,
}
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_this_file_knows_every_error():
    """No kind of error is without the tests below."""
    assert set(_errors.TorchCreatorError.__subclasses__()) == set(KINDS)


@EACH
def test_an_error_is_also_the_built_in_it_specialises(kind):
    """``except ValueError`` and its like catch what they caught before."""
    assert issubclass(kind, KINDS[kind])
    assert issubclass(kind, tc.TorchCreatorError)


@EACH
def test_the_tree_in_the_docstring_is_the_tree(kind):
    """The base class draws each subclass with its built-in."""
    drawn = f"─ {kind.__name__} ({KINDS[kind].__name__})"
    assert drawn in tc.TorchCreatorError.__doc__


@EACH
def test_the_parts_stand_on_lines_of_their_own(kind):
    """What, why and instead are printed in this order; an empty part leaves no empty line."""
    assert str(kind("what", "why", "instead")) == "what\nwhy\ninstead"
    assert str(kind("what", "", "instead")) == "what\ninstead"
    assert str(kind("what")) == "what"


@EACH
def test_an_error_survives_the_way_from_another_process(kind):
    """Pickled, as multiprocessing does, and copied, an error keeps its type and its parts."""
    error = kind("what", "why", "instead")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(other), other.args, str(other)) == (kind, error.args, str(error))


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("trainble", ["trainable", "name"], " (did you mean 'trainable'?)"),
        ("Name", ["trainable", "name"], " (did you mean 'name'?)"),
        ("frobnicate", ["trainable", "name"], ""),
        ("anything", [], ""),
    ],
    ids=["a letter missing", "another case", "nothing near", "nothing known"],
)
def test_the_nearest_known_word_is_offered(word, known, expected):
    """A misspelt word is answered with the nearest one, a strange word with nothing."""
    assert _errors.did_you_mean(word, iter(known)) == expected


class Unprintable:
    """Something whose own ``repr`` fails."""

    def __repr__(self):
        message = "no repr today"
        raise LookupError(message)


def test_a_value_that_cannot_be_printed_is_shown_all_the_same():
    """A message about a value does not fail because of the value."""
    assert _errors.shown(Unprintable()).startswith(
        "<tests.messages.test_errors.Unprintable object at 0x"
    )
    with pytest.raises(TypeError, match=r"The trainable of variable 'w' is <.*Unprintable object"):
        tc.variable(1.0, name="w", trainable=Unprintable())


def test_a_long_value_is_cut_short():
    """A message does not print a whole data set."""
    assert _errors.shown([0] * 10_000) == f"{str([0] * 10_000)[:197]}..."
    with pytest.raises(TypeError) as raised:
        tc.variable(1.0, name="w", trainable=[0] * 10_000)
    assert len(str(raised.value)) < 500


def test_a_function_is_called_by_its_name():
    """A message says a function's name; of other callables it shows what they look like."""
    assert _errors.called(Unprintable.__repr__) == "Unprintable.__repr__"
    assert _errors.called(Unprintable()).startswith(
        "<tests.messages.test_errors.Unprintable object at 0x"
    )
    assert _errors.called({}.get).startswith("dict.get")
