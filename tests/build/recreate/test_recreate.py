"""Policies and values: what stays the object, and the memory, that it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.build.recreate.models import passing, recreated, trained


def test_policies_leave_the_object_alone():
    """Identity, memory, gradient and hooks stay where only policies change, and the hooks run."""
    model = trained(nn.Linear(2, 1))
    weight, grad, seen = model.weight, model.weight.grad, []
    weight.register_hook(lambda g: seen.append("hook"))
    weight.register_post_accumulate_grad_hook(lambda p: seen.append("after"))
    version = weight._version
    recreated(model, tc.creators.declare(constraint="non_neg", aggregation="sum", tags={"a": 1}))
    assert model.weight is weight
    assert weight.grad is grad
    assert weight._version == version
    model(torch.ones(1, 2)).sum().backward()
    assert seen == ["hook", "after"]


def test_an_optimizer_goes_on_and_projects():
    """An optimizer that has the parameters carries out a constraint that is declared since."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert (model.weight < 0).all()
    recreated(model, tc.creators.constrain("non_neg", name="weight"))
    optimizer.step()
    assert (model.weight == 0).all()
    assert (model.bias < 0).all()
    recreated(model, tc.creators.constrain(lambda w: w, name="weight"))
    recreated(model, tc.creators.declare(constraint=None))
    optimizer.step()
    assert (model.weight < 0).all()


def test_a_value_is_copied_into_the_memory_that_there_is():
    """The object, its memory, its gradient and what views it stay; the version tells."""
    model = trained(nn.Sequential(nn.Linear(2, 2)))
    weight = model[0].weight
    row, memory, version, grad = weight.detach()[0], weight.data_ptr(), weight._version, weight.grad
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    doubled = weight.detach() * 2

    def double(kwargs):
        value = kwargs["initial_value"]
        kwargs["initial_value"] = lambda: value() * 2

    recreated(model, passing(double))
    assert model[0].weight is weight
    assert weight.data_ptr() == memory
    assert weight._version > version
    assert weight.grad is grad
    assert torch.equal(weight, doubled)
    assert torch.equal(row, doubled[0])
    optimizer.step()
    assert torch.equal(weight, doubled - 1)


def test_a_written_value_is_noticed_by_a_graph():
    """A backward that needs the value that was overwritten says so, as after any write."""
    model = nn.Linear(2, 2, bias=False)
    inputs = torch.ones(1, 2, requires_grad=True)
    output = model(inputs).sum()
    recreated(model, tc.creators.initialize(nn.init.zeros_))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_creators_see_what_they_made():
    """What `next_creator` returns has the new value and form already, and may be written to."""

    def normalised(next_creator, **kwargs):
        made = next_creator(**{**kwargs, "initial_value": torch.tensor([3.0, 4.0])})
        assert made.tolist() == [3.0, 4.0]
        assert kwargs["initial_value"]().tolist() == [1.0, 2.0]
        with torch.no_grad():
            made.div_(made.norm())
        return made

    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([1.0, 2.0]))
    memory = model.w.data_ptr()
    recreated(model, normalised)
    assert model.w.tolist() == pytest.approx([0.6, 0.8])
    assert model.w.data_ptr() == memory
