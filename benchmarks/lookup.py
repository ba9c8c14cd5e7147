"""What finding a declaration costs: nothing on the training path, one pass where it is asked for.

A training step reads parameters, writes gradients and steps the optimizer. None of that looks at
a declaration: the optimizers' hook keeps what it found, and finds anew only when a constrained
variable was made since. The rows compare steps of equal models, with and without declarations.

Run it with ``python -m benchmarks.lookup``.
"""

from __future__ import annotations

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Ratio, Work, compare, print_table
from torchcreator._table import TABLE, specs_of

LAYERS = 200
"""Two parameters each."""


def plain() -> nn.Module:
    """Return many small layers."""
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(LAYERS)))


def declared() -> nn.Module:
    """Return the same layers, every parameter declared."""

    def policies(next_creator: tc.NextCreator, **kwargs: object) -> nn.Parameter:
        return next_creator(**{**kwargs, "aggregation": "sum", "tags": {"lr": 1.0}})  # type: ignore[arg-type]

    with tc.creator_scope(policies):
        return plain()


def forgotten() -> nn.Module:
    """Return the same layers, made in the same way, and then without their declarations.

    Where parameters lie in memory depends on what else was made meanwhile, and moves a step by some
    per cent: equal models have to be made alike.
    """
    model = declared()
    for module in model.modules():
        module.__dict__.pop(TABLE, None)
    return model


def training(model: nn.Module) -> Work:
    """Return one training step of a model: forward, backward, optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(4, 8)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def stepping(model: nn.Module) -> Work:
    """Return the optimizer's step alone, where the hook is."""
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return optimizer.step


def reading(model: nn.Module) -> Work:
    """Return a read of every parameter through its module, as each forward does."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]

    def read() -> None:
        for layer in layers:
            layer.weight, layer.bias  # noqa: B018

    return read


def measure() -> list[Ratio]:
    """Compare declared models with plain ones, and the ways to look up."""
    free, model = forgotten(), declared()
    constrained = tc.variable([1.0], constraint="non_neg")  # from here on the hook is installed
    parameters = list(model.parameters())
    by_one = [parameters[i] for i in range(0, len(parameters), 20)]
    rows = [
        compare("training step, declared model", training(model), training(free), at_most=1.02),
        compare("optimizer step, declared model", stepping(model), stepping(free), at_most=1.02),
        compare("reading each parameter", reading(model), reading(free), at_most=1.02),
        compare(
            f"specs of {len(parameters)} parameters in one pass, against naming them",
            lambda: specs_of(parameters),
            lambda: list(model.named_parameters()),
        ),
        compare(
            f"specs of {len(by_one)} parameters one by one, against in one pass",
            lambda: [tc.spec_of(p) for p in by_one],
            lambda: specs_of(by_one),
        ),
    ]
    assert constrained is not None  # kept until the end
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_table(measure())
