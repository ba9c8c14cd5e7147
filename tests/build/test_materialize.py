"""`defer` and `materialize` on one process."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.constructors import CONSTRUCTORS
from tests.build.same import assert_same_model, tensors_of
from torchcreator._build.build import build, defer
from torchcreator._build.materialize import materialize
from torchcreator._errors import BuildError, VariableTypeError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_equals_plain_construction(name):
    """A materialised model equals the plain one, the generator's state included."""
    factory = CONSTRUCTORS[name]
    torch.manual_seed(0)
    plain = factory()
    after = torch.get_rng_state()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = defer(factory)
    assert torch.equal(torch.get_rng_state(), before)
    assert materialize(model) is model
    assert_same_model(model, plain)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_seeded_equals_build(name):
    """Deferred with a seed, a model gets the values that `build` gives it."""
    factory = CONSTRUCTORS[name]
    assert_same_model(materialize(defer(factory, seed=4)), build(factory, seed=4))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.plain = torch.arange(3) * 2.0
        self.optimizer = torch.optim.SGD([self.layer.weight], lr=0.1)
        self.kept = [self.layer.weight, self.norm.running_mean]


def test_generator_that_was_used_since_is_left_alone():
    """Numbers drawn between defer and materialize are not taken back."""
    torch.manual_seed(0)
    model = defer(Net)
    torch.rand(3)
    before = torch.get_rng_state()
    materialize(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_memory_before():
    """Until it is materialised every tensor of a deferred model is on meta."""
    model = defer(Net)
    assert all(tensor.is_meta for tensor in tensors_of(model).values() if tensor.dim())
    assert model.plain.is_meta


def test_objects_keep_their_identity():
    """An optimizer, lists and attributes made in the constructor hold the model's own tensors."""
    model = materialize(defer(Net))
    assert model.optimizer.param_groups[0]["params"][0] is model.layer.weight
    assert model.kept[0] is model.layer.weight
    assert model.kept[1] is model.norm.running_mean
    assert model.head.weight is model.embed.weight
    assert model.plain.tolist() == [0.0, 2.0, 4.0]


def test_copies_get_the_same_values():
    """A deep copy of a deferred model materialises to the same values, in memory of its own."""
    model = defer(Net, seed=0)
    other = materialize(copy.deepcopy(model))
    assert model.layer.weight.is_meta
    materialize(model)
    assert_same_model(other, model)
    assert other.head.weight is other.embed.weight
    assert other.plain.tolist() == [0.0, 2.0, 4.0]
    with torch.no_grad():
        other.layer.weight.zero_()
    assert model.layer.weight.abs().sum() > 0


def test_converted_while_deferred():
    """A dtype changed between defer and materialize is kept, with the recorded values in it."""
    model = materialize(defer(Net, seed=0).to(torch.bfloat16))
    expected = build(Net, seed=0).to(torch.bfloat16)
    assert torch.equal(model.layer.weight, expected.layer.weight)
    assert torch.equal(model.norm.running_mean, expected.norm.running_mean)


def test_creators_are_called():
    """The creators open at materialize see every parameter once, with its value."""
    seen = {}

    def double(next_creator, **kwargs):
        value = kwargs["initial_value"]
        seen[kwargs["name"]] = kwargs["module"]
        kwargs["initial_value"] = lambda: value() * 2
        return next_creator(**kwargs)

    model = defer(Net, seed=0)
    with tc.creator_scope(double):
        materialize(model)
    assert list(seen) == [name for name, _ in model.named_parameters()]
    assert torch.equal(model.layer.weight, build(Net, seed=0).layer.weight * 2)


def test_twice():
    """Materialising twice is an error that says so."""
    model = materialize(defer(Net))
    with pytest.raises(BuildError, match="is materialised already"):
        materialize(model)


def test_never_deferred():
    """A model that was never deferred is an error, on meta or not."""
    with pytest.raises(BuildError, match="This Linear was not deferred, or is materialised"):
        materialize(nn.Linear(2, 2))
    with pytest.raises(BuildError, match="although its 'weight' is on the meta device"):
        materialize(nn.Linear(2, 2, device="meta"))


def test_part_and_wrapper():
    """A part of a deferred model, and a wrapper around one, get the values of the whole."""
    model, whole = defer(Net, seed=0), build(Net, seed=0)
    assert torch.equal(materialize(model.layer).weight, whole.layer.weight)
    assert_same_model(materialize(nn.Sequential(model))[0], whole)
    assert model.optimizer.param_groups[0]["params"][0] is model.layer.weight


def test_two_deferred_models():
    """Parts of two deferred models in one are an error that says what to do."""
    model = nn.Sequential(defer(nn.Linear, 2, 2), defer(nn.Linear, 2, 2))
    with pytest.raises(BuildError, match=r"'1\.weight' comes from another deferred model"):
        materialize(model)
    materialize(model[1])
    assert not any(parameter.is_meta for parameter in materialize(model).parameters())


def test_exchanged_since():
    """A parameter exchanged for one of another shape is an error that names it."""
    model = copy.deepcopy(defer(Net))
    model.layer.weight.data = torch.empty(3, 3, device="meta")
    with pytest.raises(BuildError, match=r"'layer\.weight' has another shape(.|\n)*\(3, 3\)"):
        materialize(model)


def test_pickle():
    """A deferred model cannot be pickled, and says what to do."""
    with pytest.raises(BuildError, match="cannot be pickled"):
        pickle.dumps(defer(nn.Linear, 2, 2))


def test_not_a_module():
    """A factory that returns a tuple is a TypeError."""
    with pytest.raises(VariableTypeError, match=r"returned (.|\n)*one torch\.nn\.Module"):
        defer(lambda: (nn.Linear(2, 2), 1))


def test_compiled_while_deferred():
    """Names that torch's wrappers change are found again."""
    model = defer(lambda: nn.Sequential(nn.Linear(2, 2)), seed=0)
    copied = copy.deepcopy(model)
    copied[0] = torch.compile(copied[0], backend="eager")
    materialize(copied)
    assert torch.equal(copied[0].weight, materialize(model)[0].weight)
