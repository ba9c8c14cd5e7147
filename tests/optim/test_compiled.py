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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    @pytest.mark.parametrize(
        "name",
        ["non_neg", "max_norm", "simplex", "orthogonal", "spectral_norm", "positive_definite"],
    )
    def test_captured_in_a_graph(self, name: str) -> None:
        """A captured step projects when it is replayed."""
        p = tc.variable(torch.randn(8, 8, device="cuda"), constraint=name)
        p.grad = torch.randn_like(p)
        opt = torch.optim.SGD([p], lr=0.1)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            opt.step()  # the plan is made here
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            opt.step()
        with torch.no_grad():
            p.copy_(torch.randn(8, 8))
        expected = p.detach() - 0.1 * p.grad
        graph.replay()
        exact = tc.spec_of(p).constraint(expected.cpu().double())
        torch.testing.assert_close(p.detach().cpu().double(), exact, rtol=0, atol=1e-2)

    @pytest.mark.parametrize("name", ["non_neg", "max_norm", "simplex", "orthogonal"])
    def test_never_waits(self, name: str) -> None:
        """No step after the first synchronises with the host."""
        p = tc.variable(torch.randn(8, 8, device="cuda"), constraint=name)
        p.grad = torch.randn_like(p)
        opt = torch.optim.SGD([p], lr=0.1)
        opt.step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            opt.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_a_fused_step_that_a_scaler_skips(self) -> None:
        """On a device the skip is undone without reading it."""
        p = tc.variable(torch.tensor([-17.0], device="cuda"), constraint="non_neg")
        scaler = torch.amp.GradScaler("cuda")
        scaler.scale(torch.inf * p.sum()).backward()
        scaler.step(torch.optim.Adam([p], lr=0.1, fused=True))
        assert p.item() == -17.0
