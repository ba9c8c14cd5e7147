"""What finding a declaration costs: nothing on the training path, one pass where it is asked for.

A training step reads parameters, writes gradients and steps the optimizer. None of that looks at
a declaration: the optimizers' hook keeps what it found, and finds anew only when a constrained
variable was made since. The questions compare equal models, with and without declarations.

Run it with ``python -m benchmarks.lookup``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import DEVICE, Pair, Question, Work, question
from benchmarks._run import main
from torchcreator._spec.table import TABLE, specs_of

LAYERS = 200
"""Two parameters each."""


def plain() -> nn.Module:
    """Return many small layers."""
    return nn.Sequential(*(nn.Linear(8, 8, device=DEVICE) for _ in range(LAYERS)))


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
    x = torch.randn(4, 8, device=DEVICE)

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


def with_declarations(work: str, prepare: Callable[[nn.Module], Work]) -> Question:
    """Return the question what a model's declarations add to some work."""

    def pair() -> Iterator[Pair]:
        free, model = forgotten(), declared()
        constrained = tc.variable([1.0], constraint="non_neg")  # from here on the hook is installed
        yield prepare(model), prepare(free)
        del constrained  # kept until the end

    return question(
        f"{work}, {2 * LAYERS} declared parameters",
        against="the same without declarations",
        at_most=1.02,
    )(pair)


@question(
    f"`spec_of` for {2 * LAYERS} parameters in one pass", against="`list(model.named_parameters())`"
)
def in_one_pass() -> Iterator[Pair]:
    """Time looking all declarations up against naming the parameters."""
    model = declared()
    parameters = list(model.parameters())
    yield lambda: specs_of(parameters), lambda: list(model.named_parameters())


@question(f"`spec_of` for 20 of {2 * LAYERS} parameters, one by one", against="in one pass")
def one_by_one() -> Iterator[Pair]:
    """Time looking some declarations up singly."""
    model = declared()
    some = list(model.parameters())[::20]
    yield lambda: [tc.spec_of(p) for p in some], lambda: specs_of(some)


QUESTIONS = [
    with_declarations("training step", training),
    with_declarations("optimizer step", stepping),
    with_declarations("reading each parameter", reading),
    *(in_one_pass, one_by_one),
]

if __name__ == "__main__":
    main(QUESTIONS)
