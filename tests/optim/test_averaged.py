"""Constraints hold on every sequence of a schedule-free optimizer."""

from __future__ import annotations

import pytest
import torch

import torchcreator as tc
from tests.optim.optimizers import HALFWAY, vector

schedulefree = pytest.importorskip("schedulefree", reason="not installed")

OPTIMIZERS = {
    "sgd": lambda ps: schedulefree.SGDScheduleFree(ps, lr=1.0),
    "adamw": lambda ps: schedulefree.AdamWScheduleFree(ps, lr=1.0),
    "radam": lambda ps: schedulefree.RAdamScheduleFree(ps, lr=1.0),
    "reference": lambda ps: schedulefree.SGDScheduleFreeReference(ps, lr=1.0),
    "wrapper": lambda ps: schedulefree.ScheduleFreeWrapper(torch.optim.SGD(ps, lr=1.0)),
}


def trained(opt, loss, steps=30):
    opt.train()
    for _ in range(steps):
        opt.zero_grad()
        loss().backward()
        opt.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_in_the_set_in_training_and_evaluation(name):
    """What is trained on, shown by ``eval()``, and trained on again: all of it is in the set."""
    w = tc.variable([0.5, 0.5], constraint=tc.constraints.Clip(0.0, 1.0))
    opt = OPTIMIZERS[name]([w])
    trained(opt, lambda: (w * torch.tensor([1.0, -1.0])).sum())
    for switch in (lambda: None, opt.eval, opt.train):
        switch()
        assert w.detach().clamp(-1e-6, 1 + 1e-6).equal(w.detach())


def test_the_average_goes_to_the_constrained_optimum():
    """The best point of the set is shown, not one that an iterate far outside leads to."""
    w = tc.variable([0.5], constraint=tc.constraints.Clip(0.0, 1.0))
    opt = schedulefree.SGDScheduleFree([w], lr=0.5)
    trained(opt, w.sum, steps=60)
    opt.eval()
    assert w.item() == pytest.approx(0.0, abs=1e-2)


def test_a_function_of_ones_own():
    """Constraints that are checked by name work on all sequences too."""
    w = tc.variable([0.5], name="w", constraint=lambda w: w.clamp(0.0, 1.0))
    opt = schedulefree.SGDScheduleFree([w], lr=1.0)
    trained(opt, w.sum)
    opt.eval()
    assert 0 <= w.item() <= 1


def test_without_a_constraint_nothing_changes():
    """Unconstrained parameters of the same optimizer train as without us, bit for bit."""
    results = []
    for constraint in (None, HALFWAY):
        free, other = vector(0.3, constraint=None), vector(0.3, constraint=constraint)
        opt = schedulefree.AdamWScheduleFree([free, other], lr=0.1)
        trained(opt, lambda f=free, o=other: (f**2).sum() + (o**2).sum(), steps=5)
        opt.eval()
        results.append(free.item())
    assert results[0] == results[1]
