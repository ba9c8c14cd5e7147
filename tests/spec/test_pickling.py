"""What cannot be pickled, and what makes other objects of a module's parameters."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

import torchcreator as tc
from tests.spec.models import declared, model, step
from tests.spec.ways import loaded

# What cannot be pickled


@pytest.mark.parametrize("dump", [pickle.dumps, loaded], ids=["pickle", "save"])
def test_a_lambda_as_constraint_cannot_be_pickled(dump):
    """The error names the variable and says to write a function in a module, or a class."""
    p = tc.variable([1.0], name="gain", constraint=lambda w: w)
    with pytest.raises(tc.TorchCreatorError, match=r"'?gain'?(.*\n)*.*module"):
        dump(p)


def test_a_lambda_as_constraint_can_be_deep_copied():
    """Copies in one process share the declaration, whatever it holds."""
    p = tc.variable([1.0], name="gain", constraint=lambda w: w.abs())
    assert tc.spec_of(copy.deepcopy(p)) == tc.spec_of(p)
    module = nn.Module()
    module.p = p
    assert tc.spec_of(copy.deepcopy(module).p) == tc.spec_of(p)


# What makes other objects of a module's parameters


@pytest.mark.parametrize("apply", [parametrizations.spectral_norm, parametrizations.orthogonal])
def test_a_parametrized_original_has_the_spec(apply):
    """The original behind a parametrization is the declared variable, constraint included."""
    module = model()
    expected = tc.spec_of(module.body[0].weight)
    apply(module.body[0])
    original = module.body[0].parametrizations.weight.original
    assert tc.spec_of(original) == expected
    assert declared(module)["body.0.parametrizations.weight.original"] == expected
    for way in (copy.deepcopy, nn.Module.double):
        copied = way(module)
        assert tc.spec_of(copied.body[0].parametrizations.weight.original) == expected


def test_a_normalised_weight_is_not_constrained():
    """weight_norm's pieces have the policies and tags, but no constraint holds for a piece."""
    module = model()
    whole = tc.spec_of(module.body[0].weight)
    parametrizations.weight_norm(module.body[0])
    pieces = [*module.body[0].parametrizations.weight.parameters()]
    assert len(pieces) == 2
    for piece in pieces:
        spec = tc.spec_of(piece)
        assert spec.constraint is None
        assert (spec.aggregation, spec.tags) == (whole.aggregation, whole.tags)
    step(module)
    assert all((piece < 0).all() for piece in pieces)


def test_a_compiled_model_is_trained_under_its_constraints():
    """torch.compile finds the specs by its own names, and the hook acts after its steps."""
    original = model()
    compiled = torch.compile(original, backend="eager")
    optimizer = torch.optim.SGD([p for p in compiled.parameters() if p.requires_grad], lr=100.0)
    for _ in range(3):
        compiled(torch.randn(2, 4)).square().sum().backward()
        optimizer.step()
    trained = [p for p in original.parameters() if p.requires_grad]
    assert all((p >= 0).all() for p in trained)
    names = {name.removeprefix("_orig_mod."): spec for name, spec in declared(compiled).items()}
    assert names == declared(original)


def test_an_average_of_models_has_specs_of_its_own():
    """A model's moving average and a copy of that are found through their own parameters."""
    original = model()
    average = copy.deepcopy(AveragedModel(original, multi_avg_fn=None))
    average.update_parameters(original)
    names = {name.removeprefix("module."): spec for name, spec in declared(average).items()}
    assert names == declared(original)
