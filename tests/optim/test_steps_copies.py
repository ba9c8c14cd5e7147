"""Copies of a model and its optimizer step under the same constraints."""

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
from tests.optim.optimizers import HALFWAY, still, vector
from torchcreator import constraints as c


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
