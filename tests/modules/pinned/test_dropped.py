"""A creator's value outlives the constructor's own initialisation; what is meant for it lands."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.pinned.writes import WRITES, constant, write

# What is dropped


@pytest.mark.parametrize("how", WRITES.values(), ids=WRITES)
def test_a_constructor_does_not_overwrite_what_a_creator_set(how):
    """However a constructor writes to a pinned parameter, its value stays; other tensors change."""
    with tc.creator_scope(constant(5.0)):
        module = write(how)()
    assert (module.w == 5.0).all()
    assert module.free.abs().sum() > 0


@pytest.mark.parametrize("how", WRITES.values(), ids=WRITES)
def test_an_unpinned_parameter_is_written(how):
    """The same constructors write to a parameter whose value no creator set."""
    with tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs)):
        module = write(how)()
    torch.manual_seed(0)
    plain = write(how)()
    torch.manual_seed(0)
    with tc.creator_scope(lambda next_creator, **kwargs: next_creator(**kwargs)):
        module = write(how)()
    assert torch.equal(module.w, plain.w)
    assert torch.equal(module.free, plain.free)


def test_a_dropped_write_returns_what_it_would_have_written_to():
    """In-place methods and ``out=`` return their tensor, also when nothing was written."""
    returned = []

    def how(m):
        returned.append(m.w.normal_() is m.w)
        returned.append(torch.add(torch.ones(3, 3), 1.0, out=m.w) is m.w)
        returned.append(nn.init.ones_(m.w) is m.w)
        values, indices = torch.empty(3), torch.empty(3, dtype=torch.long)
        maximum = torch.max(torch.eye(3) + m.free, 0, out=(values, indices))
        returned.append(maximum[0] is values and maximum[1] is indices)

    with tc.creator_scope(constant(5.0)):
        write(how)()
    assert returned == [True] * 4


def test_of_several_outputs_only_the_pinned_is_dropped():
    """An operation with two outputs writes the one that is not pinned."""
    indices = torch.zeros(3, dtype=torch.long)

    class Maximum(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3))
            with torch.no_grad():
                torch.max(torch.eye(3), 0, out=(self.w.detach(), indices))

    with tc.creator_scope(constant(5.0)):
        module = Maximum()
    assert module.w.tolist() == [5.0] * 3
    assert indices.tolist() == [0, 1, 2]


def test_reading_is_undisturbed():
    """A constructor that computes with a pinned parameter computes with the creator's value."""
    read = []
    with tc.creator_scope(constant(5.0)):
        write(lambda m: read.append((m.w + 1).sum().item()))()
    assert read == [54.0]


def test_a_clone_is_not_pinned():
    """What a constructor makes of a pinned parameter is its own."""
    made = []

    def how(m):
        made.append(m.w.clone().zero_())
        made.append(m.w.detach().float().add(1).mul_(0))

    with tc.creator_scope(constant(5.0)):
        write(how)()
    assert all((t == 0).all() for t in made)


def test_a_gradient_is_written_in_a_constructor():
    """A backward pass in a constructor fills the gradient of a pinned parameter."""

    class Backward(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))
            self.w.sum().backward()
            self.w.sum().backward()

    with tc.creator_scope(constant(5.0)):
        module = Backward()
    assert module.w.grad.tolist() == [2.0, 2.0]


# What lands


def test_loading_in_the_scope_lands():
    """``load_state_dict`` writes to pinned parameters in the same scope."""
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        layer.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    assert layer.weight.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("foreach", [True, False])
def test_an_optimizer_step_in_the_scope_lands(foreach):
    """So does an optimizer's step, also the one over lists."""
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, foreach=foreach)
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert (layer.weight == 4.0).all()


def test_initialising_again_in_the_scope_lands():
    """``model.apply(init)``, ``reset_parameters`` and writes by hand land after construction."""
    with tc.creator_scope(constant(5.0)):
        model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        model.apply(lambda m: [nn.init.constant_(p, 2.0) for p in m.parameters(recurse=False)])
        assert all((p == 2.0).all() for p in model.parameters())
        model[1].reset_parameters()
        with torch.no_grad():
            model[0].weight.zero_()
    assert (model[1].weight == 1.0).all()
    assert (model[0].weight == 0.0).all()


def test_assigning_in_the_scope_lands():
    """`assign` writes to a pinned parameter."""
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        tc.assign(layer.bias, [1.0, 2.0])
    assert layer.bias.tolist() == [1.0, 2.0]


def test_other_constructors_may_not_overwrite_either():
    """A parent's constructor that initialises its children again is a constructor."""

    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.child = nn.Linear(2, 2)
            self.apply(lambda m: [nn.init.zeros_(p) for p in m.parameters(recurse=False)])

    with tc.creator_scope(constant(5.0)):
        module = Parent()
    assert (module.child.weight == 5.0).all()


def test_an_init_of_something_else_is_no_constructor():
    """Only a module's ``__init__`` counts: a trainer's may initialise a finished model."""

    class Trainer:
        def __init__(self, model):
            nn.init.zeros_(model.weight)

    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        Trainer(layer)
    assert (layer.weight == 0.0).all()


def test_replacing_data_is_not_caught():
    """``p.data = x`` in a constructor is no operation, and replaces the value, as documented."""

    def how(m):
        m.w.data = torch.ones(3, 3)

    with tc.creator_scope(constant(5.0)):
        module = write(how)()
    assert (module.w == 1.0).all()
