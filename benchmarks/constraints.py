"""What constraints cost a training step: ``python -m benchmarks.constraints``.

Peers that are not installed are left out, with a reason. ``pip install geotorch keras`` brings
those that are no part of torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import torchcreator as tc
from benchmarks._measure import Ratio, compare, print_table
from torchcreator import constraints

COUNT = 1000
SHAPE = (16, 16)
LAYERS, WIDTH, BATCH = 50, 64, 32
TRAINING = f"whole training step, {LAYERS} × Linear({WIDTH}, {WIDTH}), batch {BATCH}: "
Step = Callable[[], object]


def parameters(constraint: tc.Constraint | str | None = None) -> list[nn.Parameter]:
    """Return many small parameters with gradients, under a constraint or under none."""
    torch.manual_seed(0)
    made = [tc.variable(torch.rand(SHAPE), constraint=constraint) for _ in range(COUNT)]
    for p in made:
        p.grad = 0.01 * torch.randn(SHAPE)
    return made


def step_under(constraint: tc.Constraint | str) -> Step:
    """Return a step that our hook follows."""
    return torch.optim.SGD(parameters(constraint), lr=0.01).step


def step_then(project: Callable[[list[nn.Parameter]], object]) -> Step:
    """Return a step that a projection by hand follows."""
    ps = parameters()
    step = torch.optim.SGD(ps, lr=0.01).step

    def both() -> None:
        step()
        with torch.no_grad():
            project(ps)

    return both


def clamp_at_once(ps: list[nn.Parameter]) -> None:
    """Project with the one kernel that does it."""
    torch._foreach_clamp_min_(tuple(ps), 0)


def clamp_each(ps: list[nn.Parameter]) -> None:
    """Project with the loop that one writes."""
    for p in ps:
        p.clamp_(min=0)


def keras_non_neg(ps: list[nn.Parameter]) -> None:
    """Project with Keras' formula."""
    for p in ps:
        p.copy_(p * (p >= 0))


def norm_each(ps: list[nn.Parameter]) -> None:
    """Project with the loop that one writes."""
    for p in ps:
        norm = p.norm(dim=1, keepdim=True)
        p.mul_(norm.clamp(max=2.0) / (norm + 1e-7))


def element_wise() -> Iterator[Ratio]:
    """Time `NonNeg` on many parameters, the step included."""
    ours = step_under("non_neg")
    name = f"NonNeg, step of {COUNT} parameters"
    yield compare(
        f"{name}, against `_foreach_clamp_min_` by hand",
        ours,
        step_then(clamp_at_once),
        seconds=6.0,
        at_most=1.08,
    )
    yield compare(f"{name}, against a loop of `clamp_`", ours, step_then(clamp_each))
    yield compare(f"{name}, against a loop of Keras' formula", ours, step_then(keras_non_neg))
    yield from against_keras(name, ours, "NonNeg")


def norms() -> Iterator[Ratio]:
    """Time `MaxNorm` on many parameters, the step included."""
    ours = step_under("max_norm")
    name = f"MaxNorm, step of {COUNT} parameters"
    loop = step_then(norm_each)
    yield compare(f"{name}, against a loop by hand", ours, loop, seconds=4.0, at_most=0.4)
    yield from against_keras(name, ours, "MaxNorm")


def against_keras(name: str, ours: Step, kind: str) -> Iterator[Ratio]:
    """Time the same step of Keras' own optimizer on its torch backend."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = peer("keras")
    if keras is None or keras.backend.backend() != "torch":
        return
    options = {} if kind == "NonNeg" else {"axis": 1}
    constraint = getattr(keras.constraints, kind)(**options)
    made = [keras.Variable(torch.rand(SHAPE).numpy(), name=f"v{i}") for i in range(COUNT)]
    for variable in made:
        variable.constraint = constraint
    gradients = [0.01 * torch.randn(SHAPE) for _ in made]
    optimizer = keras.optimizers.SGD(learning_rate=0.01)
    optimizer.build(made)

    def theirs() -> None:
        with torch.no_grad():
            optimizer.apply(gradients, made)

    yield compare(f"{name}, against Keras' optimizer on torch", ours, theirs)


def training(prepare: Callable[[nn.Linear], object] | None = None, **scope: Any) -> Step:
    """Return a training step of a deep linear network, its layers prepared in some way."""

    def declare(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        matrix = len(kwargs["shape"]) == 2
        return next_creator(**{**kwargs, **(scope if matrix else {})})

    torch.manual_seed(0)
    with tc.creator_scope(declare):
        layers = [nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
        if prepare is not None:
            prepare(layer)
    model = nn.Sequential(*layers)
    x, y = torch.randn(BATCH, WIDTH), torch.randn(BATCH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    return step


class Positive(nn.Module):
    """A parametrization that does what `NonNeg` does, in every forward."""

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        """Return the positive part."""
        return w.clamp(min=0)


def matrices() -> Iterator[Ratio]:
    """Time whole training steps under `Orthogonal` and under what peers offer for it."""
    plain = training()
    bound = training(constraint=constraints.Orthogonal())
    yield compare(f"{TRAINING}Orthogonal, against none", bound, plain, seconds=6.0, at_most=2.0)
    for way in ("cayley", "matrix_exp", "householder"):

        def prepare(layer: nn.Linear, way: str = way) -> None:
            parametrizations.orthogonal(layer, orthogonal_map=way)

        yield compare(f"{TRAINING}parametrize, {way}, against none", training(prepare), plain)
    geotorch = peer("geotorch")
    if geotorch is not None:
        made = training(lambda layer: geotorch.orthogonal(layer, "weight"))
        yield compare(f"{TRAINING}geotorch, against none", made, plain)
    yield compare(f"{TRAINING}NonNeg, against none", training(constraint="non_neg"), plain)
    clamped = training(
        lambda layer: parametrize.register_parametrization(layer, "weight", Positive())
    )
    yield compare(f"{TRAINING}a parametrization by clamp, against none", clamped, plain)


def each() -> Iterator[Ratio]:
    """Time whole training steps under every other ready-made constraint."""
    c = constraints
    kinds: list[tc.Constraint] = [
        *(c.Clip(-0.1, 0.1), c.Masked(torch.ones(WIDTH, WIDTH).tril(WIDTH // 2))),
        *(c.MaxNorm(), c.UnitNorm(), c.MinMaxNorm(), c.Simplex(), c.Sparse(8)),
        *(c.Symmetric(), c.PositiveDefinite(), c.SpectralNorm(), c.SpectralNorm(mode="scale")),
    ]
    plain = training()
    for kind in kinds:
        name = f"{TRAINING}{type(kind).__name__}, against none"
        yield compare(name, training(constraint=kind), plain, seconds=1.0)


def unconstrained() -> Ratio:
    """Time what the hook takes from an optimizer that it has nothing to do for."""
    from torchcreator.optim._hook import after_step

    p = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    p.grad = torch.zeros(1)
    hook = torch.compiler.disable(after_step)  # as it is registered

    def nothing() -> None:
        hook(optimizer, (), {})

    return compare(
        "the hook of an optimizer without constrained parameters, against its whole step",
        nothing,
        optimizer.step,
    )


def peer(name: str) -> Any:
    """Import a peer, or say why it is left out."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is left out: {error}")
        return None


def main() -> None:
    """Print every row."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread\n")
    print_table([*element_wise(), *norms(), *matrices(), *each(), unconstrained()])


if __name__ == "__main__":
    main()
