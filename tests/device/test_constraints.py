"""Constraints after steps that optimizers do in other ways, skipped, captured and unwatched."""

from __future__ import annotations

import warnings

import pytest
import torch

import torchcreator as tc
from tests.device.marks import CUDA

NAMES = ("non_neg", "unit_norm", "max_norm", "simplex", "orthogonal", "spectral_norm")
OPTIMIZERS = {
    "sgd foreach": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, foreach=True),
    "sgd fused": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, fused=True),
    "adam foreach": lambda ps: torch.optim.Adam(ps, lr=0.1, foreach=True),
    "adam fused": lambda ps: torch.optim.Adam(ps, lr=0.1, fused=True),
    "adamw fused": lambda ps: torch.optim.AdamW(ps, lr=0.1, fused=True),
}
ON_DEVICES = {
    **OPTIMIZERS,
    "adam capturable": lambda ps: torch.optim.Adam(ps, lr=0.1, foreach=True, capturable=True),
    "adam fused capturable": lambda ps: torch.optim.Adam(ps, lr=0.1, fused=True, capturable=True),
}
on_cuda = pytest.mark.parametrize("device", [CUDA], indirect=True)


def constrained(device):
    """Return a variable of each constraint, with a gradient."""
    torch.manual_seed(0)
    ps = [tc.variable(torch.randn(8, 8, device=device), constraint=name) for name in NAMES]
    for p in ps:
        p.grad = torch.randn_like(p)
    return ps


def assert_held(ps):
    for name, p in zip(NAMES, ps, strict=True):
        projected = tc.spec_of(p).constraint(p.detach())
        assert (p.detach() - projected).abs().max() < 1e-2, name


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_step_is_projected(device, make):
    """Whichever kernels an optimizer uses, each constraint holds after each of its steps."""
    ps = constrained(device)
    opt = make(ps)
    for _ in range(3):
        opt.step()
        assert_held(ps)


@on_cuda
@pytest.mark.parametrize("make", ON_DEVICES.values(), ids=ON_DEVICES)
def test_no_step_waits(device, make):
    """After the first step nothing reads the device, which would keep the host from running on."""
    ps = constrained(device)
    opt = make(ps)
    opt.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first time it says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        opt.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_held(ps)


def captured(opt):
    """Return a graph of one step."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        opt.step()  # the plan is made here
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
    return graph


@on_cuda
@pytest.mark.parametrize("name", [*NAMES, "positive_definite"])
def test_what_is_replayed_is_the_formula(device, name):
    """A captured step leaves what the constraint makes of the step without it."""
    p = tc.variable(torch.randn(8, 8, device=device), constraint=name)
    p.grad = torch.randn_like(p)
    graph = captured(torch.optim.SGD([p], lr=0.1))
    with torch.no_grad():
        p.copy_(torch.randn(8, 8))
    expected = p.detach() - 0.1 * p.grad
    graph.replay()
    exact = tc.spec_of(p).constraint(expected.cpu().double())
    torch.testing.assert_close(p.detach().cpu().double(), exact, rtol=0, atol=1e-2)


@on_cuda
@pytest.mark.parametrize("name", ["adam capturable", "adam fused capturable"])
def test_a_graph_projects_when_it_is_replayed(device, name):
    """A captured step brings along the projections of all constraints."""
    ps = constrained(device)
    graph = captured(ON_DEVICES[name](ps))
    for _ in range(3):
        with torch.no_grad():
            for p in ps:
                p.copy_(torch.randn(8, 8))
        graph.replay()
        assert_held(ps)


@pytest.mark.parametrize("fused", [False, True], ids=["foreach", "fused"])
def test_a_scaler_skips_and_steps(device, fused):
    """What a GradScaler skips is left as it was; what it lets through is projected."""
    p = tc.variable(torch.tensor([-17.0, 0.05], device=device), constraint="non_neg", name="p")
    opt = torch.optim.Adam([p], lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler(device.type, init_scale=4.0)
    scaler.scale(torch.inf * p.sum()).backward()
    scaler.step(opt)
    scaler.update()
    assert p.tolist() == pytest.approx([-17.0, 0.05])
    opt.zero_grad()
    scaler.scale(p.sum()).backward()
    scaler.step(opt)
    assert p.tolist() == [0.0, 0.0]
