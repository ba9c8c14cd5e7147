"""Constraints hold after every kind of step: closures, scalers, steps in backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.optim.optimizers import HALFWAY, declare_like, still, vector
from torchcreator import constraints as c


def test_lbfgs() -> None:
    """An optimizer that evaluates a closure many times leaves its result in the set."""
    p = vector(1.0, 1.0)
    opt = torch.optim.LBFGS([p], lr=0.5, max_iter=5)

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = ((p - torch.tensor([-2.0, 3.0])) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        opt.step(closure)
        assert (p >= 0).all()
    assert p[1].item() == pytest.approx(3.0, abs=0.1)


def test_scheduler() -> None:
    """A scheduler replaces ``step`` on the instance; the hook runs all the same."""
    p = vector(1.0)
    opt = torch.optim.SGD([p], lr=4.0)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    p.sum().backward()
    opt.step()
    scheduler.step()
    assert p.item() == 0.0


def test_optimizer_in_backward() -> None:
    """One optimizer per parameter, stepping inside the backward, projects its own."""
    ps = [vector(1.0) for _ in range(3)]
    optimizers = {p: torch.optim.SGD([p], lr=4.0) for p in ps}
    for p in ps:
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
    sum(p.sum() for p in ps).backward()
    assert [p.item() for p in ps] == [0.0, 0.0, 0.0]


class TestGradScaler:
    """A step that a scaler skips writes nothing, so nothing is projected."""

    def step(self, opt: torch.optim.Optimizer, p: nn.Parameter, gradient: float) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        scaler.scale(gradient * p.sum()).backward()
        scaler.step(opt)
        scaler.update()

    @pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
    @pytest.mark.parametrize("constraint", ["non_neg", HALFWAY], ids=["non_neg", "halfway"])
    def test_skipped(self, fused: bool, constraint) -> None:
        """An infinite gradient leaves a parameter outside its set where it is."""
        p = vector(-17.0, constraint=constraint)
        self.step(torch.optim.SGD([p], lr=0.1, fused=fused), p, torch.inf)
        assert p.item() == -17.0

    @pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
    def test_taken(self, fused: bool) -> None:
        """A finite gradient is stepped with, and projected."""
        p = vector(1.0)
        self.step(torch.optim.SGD([p], lr=10.0, fused=fused), p, 1.0)
        assert p.item() == 0.0


class TestWhatIsInAnOptimizer:
    """The plan follows the optimizer's groups and the declarations."""

    def test_a_group_added_later(self) -> None:
        """`add_param_group` is noticed."""
        first, second = still(vector(-1.0)), still(vector(-1.0))
        opt = torch.optim.SGD([first], lr=1.0)
        opt.step()
        opt.add_param_group({"params": [second]})
        opt.step()
        assert (first.item(), second.item()) == (0.0, 0.0)

    def test_a_list_that_grows(self) -> None:
        """A parameter appended to a group's own list is noticed."""
        first, second = still(vector(-1.0)), still(vector(-1.0))
        opt = torch.optim.SGD([first], lr=1.0)
        opt.step()
        opt.param_groups[0]["params"].append(second)
        opt.step()
        assert second.item() == 0.0

    def test_a_list_that_is_replaced(self) -> None:
        """A group whose parameters are another list is noticed."""
        first, second = still(vector(-1.0)), still(vector(-1.0))
        opt = torch.optim.SGD([first], lr=1.0)
        opt.step()
        opt.param_groups[0]["params"] = [second]
        opt.step()
        assert second.item() == 0.0

    def test_a_module_made_after_the_first_step(self) -> None:
        """A parameter that got its constraint after the plan was made is projected."""
        p = still(vector(1.0))
        q = still(nn.Parameter(torch.tensor([-1.0])))
        opt = torch.optim.SGD([p, q], lr=1.0)
        opt.step()
        assert q.item() == -1.0
        model = nn.Module()
        with tc.creator_scope(lambda next_creator, **kwargs: q):
            model.w = vector(1.0)
        model.v = vector(1.0)
        model.w = q
        declare_like(model, "w", model.v)
        opt.step()
        assert q.item() == 0.0

    def test_the_plan_is_made_once(self, monkeypatch) -> None:
        """Steps after the first look nothing up."""
        from torchcreator._optim import hook

        p = still(vector(-1.0))
        opt = torch.optim.SGD([p], lr=1.0)
        opt.step()
        monkeypatch.setattr(hook, "specs_of", None)
        opt.step()
        p.grad = torch.tensor([5.0])
        opt.step()
        assert p.item() == 0.0

    def test_equal_constraints_are_one_call(self, monkeypatch) -> None:
        """Parameters of equal constraint, shape and dtype are projected together."""
        calls = []
        project_ = c.MaxNorm.project_
        monkeypatch.setattr(
            c.MaxNorm, "project_", lambda self, ws: (calls.append(len(ws)), project_(self, ws))
        )
        same = [still(tc.variable(torch.ones(3, 4), constraint="max_norm")) for _ in range(5)]
        other = [still(tc.variable(torch.ones(4, 3), constraint=c.MaxNorm(2.0)))]
        torch.optim.SGD([*same, *other], lr=0.0).step()
        assert sorted(calls) == [1, 5]

    def test_optimizers_are_not_kept_alive(self) -> None:
        """A plan goes with its optimizer."""
        import gc

        from torchcreator._optim import hook

        gc.collect()
        before = len(hook._plans)
        opt = torch.optim.SGD([still(vector(-1.0))], lr=1.0)
        opt.step()
        assert len(hook._plans) == before + 1
        del opt
        gc.collect()
        assert len(hook._plans) == before
