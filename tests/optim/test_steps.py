"""Constraints hold after a step, of what it wrote and of nothing else."""

from __future__ import annotations

import torch

import torchcreator as tc
from tests.optim.optimizers import still, vector


def test_what_a_step_wrote_is_projected() -> None:
    """No line in the training loop is needed, and the step itself is torch's."""
    p = vector(1.0, 1.0)
    (p * torch.tensor([3.0, -3.0])).sum().backward()
    torch.optim.SGD([p], lr=1.0).step()
    assert p.tolist() == [0.0, 4.0]


def test_neither_creation_nor_assign_projects() -> None:
    """A constraint is about what optimizers write."""
    p = vector(-1.0)
    assert p.tolist() == [-1.0]
    tc.assign(p, torch.tensor([-2.0]))
    assert p.tolist() == [-2.0]


def test_only_parameters_with_a_gradient() -> None:
    """A parameter that the step did not reach is not touched, nor is one without a constraint."""
    reached, missed, free = vector(1.0), vector(-1.0), tc.variable([-1.0])
    opt = torch.optim.SGD([reached, missed, free], lr=1.0)
    (3 * reached + free).sum().backward()
    opt.step()
    assert (reached.item(), missed.item(), free.item()) == (0.0, -1.0, -2.0)
    missed.sum().backward()
    opt.step()
    assert missed.item() == 0.0


def test_only_its_own_optimizer() -> None:
    """A step projects the parameters of that optimizer alone."""
    mine, other = still(vector(-1.0)), still(vector(-1.0))
    opt, _ = torch.optim.SGD([mine], lr=1.0), torch.optim.SGD([other], lr=1.0)
    opt.step()
    assert (mine.item(), other.item()) == (0.0, -1.0)


def test_gradients_and_grad_mode_are_left_alone() -> None:
    """The projection records nothing and leaves gradients as they are."""
    p = vector(1.0)
    (2 * p).sum().backward()
    torch.optim.SGD([p], lr=1.0).step()
    assert p.is_leaf
    assert p.grad.tolist() == [2.0]
    assert torch.is_grad_enabled()
