"""Compiled steps and CUDA graphs: the hook is outside what is compiled, inside what is captured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc
from torchcreator import constraints as c

HALFWAY = c.MinMaxNorm(0.0, 1.0, rate=0.5)


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        pytest.param(torch.optim.SGD, "eager", id="sgd-eager"),
        pytest.param(torch.optim.Adam, "eager", id="adam-eager"),
        pytest.param(torch.optim.SGD, "inductor", id="sgd-inductor", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")  # what dynamo says of its own breaks is not our subject
def test_a_compiled_step(make, backend: str) -> None:
    """`torch.compile(optimizer.step)` projects, once a step, like the plain one."""

    def run(compiled: bool) -> list[list[float]]:
        ps = [
            tc.variable([1.0, -1.0], constraint="non_neg"),
            tc.variable([3.0, 4.0], constraint=HALFWAY),
        ]
        opt = make(ps, lr=1.0)
        step = torch.compile(opt.step, backend=backend) if compiled else opt.step
        seen = []
        for _ in range(3):
            for p in ps:
                p.grad = torch.tensor([2.0, -0.5])
            step()
            seen += [p.tolist() for p in ps]
        return seen

    for ours, plain in zip(run(compiled=True), run(compiled=False), strict=True):
        assert ours == pytest.approx(plain, abs=1e-4)  # a compiled Adam rounds otherwise


@pytest.mark.filterwarnings("ignore")
def test_a_whole_compiled_training_step() -> None:
    """Forward, backward and step in one compiled function keep the constraint."""
    model = nn.Linear(3, 2)
    model.weight = tc.variable(torch.ones(2, 3), constraint=c.MaxNorm(0.5), name="weight")
    opt = torch.optim.SGD(model.parameters(), lr=1.0)

    @torch.compile(backend="eager")
    def train(x: torch.Tensor) -> None:
        opt.zero_grad()
        model(x).square().sum().backward()
        opt.step()

    for _ in range(3):
        train(torch.randn(4, 3))
        assert (model.weight.detach().norm(dim=1) <= 0.5 + 1e-5).all()


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_keeps_its_constraints() -> None:
    """Compiling the model leaves the parameters, and so their constraints, where they are."""
    model = nn.Linear(2, 1)
    model.weight = tc.variable(torch.ones(1, 2), constraint="non_neg", name="weight")
    compiled = torch.compile(model, backend="eager")
    opt = torch.optim.SGD(compiled.parameters(), lr=100.0)
    compiled(torch.ones(1, 2)).sum().backward()
    opt.step()
    assert model.weight.tolist() == [[0.0, 0.0]]
