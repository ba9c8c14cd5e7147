"""A whole training step, compiled by inductor for the device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchcreator as tc

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of dynamo's own breaks


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(device, *, compiled):
    """Return a model's weights after each of three steps."""
    with tc.creator_scope(tc.creators.constrain("max_norm")):
        model = tc.build(nn.Linear, 16, 8, device=device, seed=0)
    opt = torch.optim.SGD(model.parameters(), lr=1.0)

    def step(x):
        opt.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        opt.step()
        return loss

    run = torch.compile(step) if compiled else step
    x = torch.linspace(-1, 1, 4 * 16, device=device).view(4, 16)
    weights = []
    for _ in range(3):
        run(x)
        weights.append(model.weight.detach().clone())
    return weights


def test_a_compiled_step_does_what_a_plain_one_does(device):
    """Forward, backward, optimizer and projection: the same weights, constrained, three times."""
    plain, ours = trained(device, compiled=False), trained(device, compiled=True)
    for expected, found in zip(plain, ours, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(tc.constraints.get("max_norm")(found), found)
