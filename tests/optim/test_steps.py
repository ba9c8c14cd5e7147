"""Constraints hold after every kind of step, once for each time a parameter was written."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import constraints as c

HALFWAY = c.MinMaxNorm(0.0, 1.0, rate=0.5)
"""Not idempotent: each projection halves the excess over a length of one."""


class Double(torch.optim.SGD):
    """A subclass that calls ``super().step()``: torch's hooks run twice."""

    def step(self, closure=None):
        return super().step(closure)


class Scaling(torch.optim.SGD):
    """A subclass that writes after ``super().step()``."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(10)


class Wrapping(torch.optim.Optimizer):
    """An optimizer that steps another one, as PostLocalSGDOptimizer does, and may write after."""

    def __init__(self, inner: torch.optim.Optimizer, factor: float | None = None) -> None:
        super().__init__(inner.param_groups, {})
        self.param_groups = inner.param_groups
        self.inner, self.factor = inner, factor

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step(closure)
        for group in self.param_groups if self.factor else ():
            for p in group["params"]:
                p.mul_(self.factor)


def vector(*values: float, constraint: object = "non_neg", **options: object) -> nn.Parameter:
    return tc.variable(list(values), constraint=constraint, **options)


def still(p: nn.Parameter) -> nn.Parameter:
    """Give a parameter a gradient of zero: a step then counts without moving it."""
    p.grad = torch.zeros_like(p)
    return p


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


class TestOncePerWrite:
    """A constraint that is not idempotent shows how often it was applied."""

    def test_a_fused_step_leaves_no_version(self) -> None:
        """Why versions alone do not tell: should this fail, nothing need be forgotten any more."""
        p = still(vector(17.0, constraint=None))
        before = p._version
        torch.optim.SGD([p], lr=1.0, fused=True, weight_decay=0.5).step()
        assert p.item() == 8.5
        assert p._version == before

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda ps: torch.optim.SGD(ps, lr=1.0), id="plain"),
            pytest.param(lambda ps: torch.optim.SGD(ps, lr=1.0, fused=True), id="fused"),
            pytest.param(lambda ps: Double(ps, lr=1.0), id="super-step"),
            pytest.param(lambda ps: Double(ps, lr=1.0, fused=True), id="super-step-fused"),
            pytest.param(lambda ps: Wrapping(torch.optim.SGD(ps, lr=1.0)), id="wrapped"),
            pytest.param(
                lambda ps: Wrapping(torch.optim.SGD(ps, lr=1.0, fused=True)), id="wrapped-fused"
            ),
            pytest.param(lambda ps: Wrapping(Double(ps, lr=1.0)), id="wrapped-super-step"),
        ],
    )
    def test_each_step_once(self, make) -> None:
        """However often torch runs its hooks in a step, the way is halved once."""
        p = still(vector(17.0, constraint=HALFWAY))
        opt = make([p])
        for expected in (9.0, 5.0, 3.0):
            opt.step()
            assert p.item() == pytest.approx(expected, rel=1e-5)

    def test_what_is_written_after_super_step(self) -> None:
        """A write after the inner hook is projected by the outer one."""
        p = still(vector(17.0, constraint=HALFWAY))
        Scaling([p], lr=1.0).step()
        assert p.item() == pytest.approx((90.0 + 1) / 2, rel=1e-5)

    def test_what_a_wrapper_averages_afterwards(self) -> None:
        """An optimizer that writes after the one it wraps has its writes projected."""
        p = still(vector(17.0, constraint=HALFWAY))
        Wrapping(torch.optim.SGD([p], lr=1.0), factor=10.0).step()
        assert p.item() == pytest.approx((90.0 + 1) / 2, rel=1e-5)

    def test_a_step_that_raises_leaves_nothing_behind(self) -> None:
        """After an exception in a closure the next step projects once, as ever."""
        p = still(vector(17.0, constraint=HALFWAY))
        opt = Double([p], lr=1.0)
        opt.step()

        def fail() -> float:
            raise OSError("no data")

        with pytest.raises(OSError, match="no data"):
            opt.step(fail)
        assert p.item() == pytest.approx(9.0, rel=1e-5)
        opt.step()
        assert p.item() == pytest.approx(5.0, rel=1e-5)

    def test_a_new_plan_remembers(self) -> None:
        """Variables made between an inner step and the outer one cause no second projection."""
        p = still(vector(17.0, constraint=HALFWAY))

        class Making(torch.optim.SGD):
            def step(self, closure=None):
                super().step(closure)
                vector(1.0)

        Making([p], lr=1.0).step()
        assert p.item() == pytest.approx(9.0, rel=1e-5)

    def test_accumulation(self) -> None:
        """Several backwards before one step are one write."""
        p = vector(17.0, constraint=HALFWAY)
        opt = torch.optim.SGD([p], lr=0.0)
        for _ in range(3):
            p.sum().backward()
        opt.step()
        assert p.item() == pytest.approx(9.0, rel=1e-5)

    def test_two_optimizers_with_one_parameter(self) -> None:
        """Each optimizer's step is a write of its own."""
        p = still(vector(17.0, constraint=HALFWAY))
        for opt in (torch.optim.SGD([p], lr=1.0), torch.optim.Adam([p], lr=0.0)):
            opt.step()
        assert p.item() == pytest.approx(5.0, rel=1e-5)


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
        from torchcreator.optim import _hook

        p = still(vector(-1.0))
        opt = torch.optim.SGD([p], lr=1.0)
        opt.step()
        monkeypatch.setattr(_hook, "specs_of", None)
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

        from torchcreator.optim import _hook

        gc.collect()
        before = len(_hook._plans)
        opt = torch.optim.SGD([still(vector(-1.0))], lr=1.0)
        opt.step()
        assert len(_hook._plans) == before + 1
        del opt
        gc.collect()
        assert len(_hook._plans) == before


def declare_like(module: nn.Module, name: str, like: nn.Parameter) -> None:
    """Declare a parameter of a module as another one was."""
    from torchcreator._table import declaration_of, declare

    declaration = declaration_of(like)
    declare(module, name, type(declaration)(*declaration.fields))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = vector(1.0, 1.0, name="w")

    def forward(self) -> torch.Tensor:
        return self.w.sum()


def train(model: nn.Module, opt: torch.optim.Optimizer) -> list[float]:
    opt.zero_grad()
    model().backward()
    opt.step()
    return next(model.parameters()).tolist()


class TestCopies:
    """torch drops an optimizer's own hooks when it is copied; ours is not one of those."""

    def test_deepcopied_together(self) -> None:
        """A deep copy of a model and its optimizer trains under the constraints."""
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=5.0)
        model, opt = copy.deepcopy((model, opt))
        assert train(model, opt) == [0.0, 0.0]

    def test_copied_after_a_step(self) -> None:
        """A copy of an optimizer that has stepped has a plan of its own."""
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
        train(model, opt)
        twin, its = copy.deepcopy((model, opt))
        its.param_groups[0]["lr"] = 5.0
        assert train(twin, its) == [0.0, 0.0]
        assert train(model, opt) == [1.0, 1.0]

    def test_pickled_together(self) -> None:
        """What pickle brings back trains under the constraints."""
        model = Net()
        pair = pickle.loads(pickle.dumps((model, torch.optim.SGD(model.parameters(), lr=5.0))))
        assert train(*pair) == [0.0, 0.0]

    @pytest.mark.parametrize("fused", [False, True], ids=["foreach", "fused"])
    def test_copies_of_what_is_not_idempotent(self, fused: bool) -> None:
        """A copied optimizer projects once each step, also when its writes leave no version."""
        p = still(vector(17.0, constraint=HALFWAY))
        opt = torch.optim.SGD([p], lr=0.0, fused=fused)
        opt.step()
        q, its = copy.deepcopy((p, opt))
        q.grad = torch.zeros_like(q)
        for expected in (5.0, 3.0):
            its.step()
            assert q.item() == pytest.approx(expected, rel=1e-5)

    def test_a_state_dict_loaded_into_an_optimizer(self) -> None:
        """`Optimizer.load_state_dict` keeps the parameters, and so the constraints."""
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=5.0)
        opt.load_state_dict(copy.deepcopy(opt.state_dict()))
        assert train(model, opt) == [0.0, 0.0]

    def test_a_process_that_only_loads(self, tmp_path) -> None:
        """A fresh process that unpickles a model, and imports nothing of ours, is bound by it."""
        file = tmp_path / "model.pt"
        model = nn.Linear(2, 1)
        model.weight = vector_like(model.weight)
        torch.save(model, file)
        program = f"""
            import torch
            model = torch.load({str(file)!r}, weights_only=False)
            opt = torch.optim.SGD(model.parameters(), lr=100.0)
            model(torch.ones(4, 2)).sum().backward()
            opt.step()
            assert (model.weight == 0).all(), model.weight
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def vector_like(p: nn.Parameter) -> nn.Parameter:
    return tc.variable(p.detach(), constraint="non_neg", name="weight")


def test_torch_save_of_a_loose_parameter_reads_safely() -> None:
    """A constrained parameter can be read with weights_only, constraint and all."""
    file = io.BytesIO()
    torch.save(vector(1.0, constraint=c.NonNeg() & c.MaxNorm(3.0)), file)
    file.seek(0)
    p = still(torch.load(file, weights_only=True))
    assert tc.spec_of(p).constraint == c.NonNeg() & c.MaxNorm(3.0)
