"""What constraints cost a training step: ``python -m benchmarks.constraints``.

``pip install geotorch keras`` brings the peers that are no part of torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import torchcreator as tc
from benchmarks._measure import DEVICE, Pair, Question, SkipQuestion, question
from benchmarks._peers import peer
from benchmarks._run import main
from torchcreator import constraints

COUNT = 1000
SHAPE = (16, 16)
LAYERS, WIDTH, BATCH = 50, 64, 32
NON_NEG = f"NonNeg on {COUNT:,} parameters, step included"
MAX_NORM = f"MaxNorm on {COUNT:,} parameters, step included"
TRAINING = f"training step, {LAYERS} × `nn.Linear({WIDTH}, {WIDTH})`, batch {BATCH}"
ORTHOGONAL = f"Orthogonal, {TRAINING}"
Step = Callable[[], object]

as_trained = functools.partial(question, threads=None)
"""A question about a training step, which torch gives as many threads as there are cores."""


def parameters(constraint: tc.Constraint | str | None = None) -> list[nn.Parameter]:
    """Return many small parameters with gradients, under a constraint or under none."""
    torch.manual_seed(0)
    made = [
        tc.variable(torch.rand(SHAPE, device=DEVICE), constraint=constraint) for _ in range(COUNT)
    ]
    for p in made:
        p.grad = 0.01 * torch.randn(SHAPE, device=DEVICE)
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


def clamp_with_gradient(ps: list[nn.Parameter]) -> None:
    """Project with one call those parameters that a step has written: those with a gradient."""
    if any(p.grad is None for p in ps):
        raise NotImplementedError
    clamp_at_once(ps)


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


def by_hand(
    work: str,
    constraint: str,
    project: Callable[[list[nn.Parameter]], object],
    *,
    against: str,
    at_most: float | None = None,
    headline: bool = False,
) -> Question:
    """Return the question how our step compares with one that a projection by hand follows."""

    def pair() -> Iterator[Pair]:
        yield step_under(constraint), step_then(project)

    seconds = 2.0 if at_most is None else 6.0
    return as_trained(work, against=against, at_most=at_most, seconds=seconds, headline=headline)(
        pair
    )


def in_keras(work: str, constraint: str, kind: str, **options: Any) -> Question:
    """Return the question how it compares with Keras' own optimizer on its torch backend."""

    def pair() -> Iterator[Pair]:
        keras = peer("keras")
        if keras.backend.backend() != "torch":
            raise SkipQuestion(f"keras runs on {keras.backend.backend()}, not on torch")
        made = [keras.Variable(torch.rand(SHAPE).numpy(), name=f"v{i}") for i in range(COUNT)]
        for variable in made:
            variable.constraint = getattr(keras.constraints, kind)(**options)
        gradients = [0.01 * torch.randn(SHAPE) for _ in made]
        optimizer = keras.optimizers.SGD(learning_rate=0.01)
        optimizer.build(made)

        def theirs() -> None:
            with torch.no_grad():
                optimizer.apply(gradients, made)

        yield step_under(constraint), theirs

    return as_trained(work, against="Keras' optimizer on torch")(pair)


def training(prepare: Callable[[nn.Linear], object] | None = None, **scope: Any) -> Step:
    """Return a training step of a deep linear network, its layers prepared in some way."""

    def declare(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        matrix = len(kwargs["shape"]) == 2
        return next_creator(**{**kwargs, **(scope if matrix else {})})

    torch.manual_seed(0)
    with tc.creator_scope(declare):
        layers = [nn.Linear(WIDTH, WIDTH, device=DEVICE) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
        if prepare is not None:
            prepare(layer)
    model = nn.Sequential(*layers)
    x, y = torch.randn(2, BATCH, WIDTH, device=DEVICE)
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


Prepare = Callable[[nn.Linear], object]


def parametrized(way: str) -> Callable[[], Prepare]:
    """Return what finds one of torch's own orthogonal maps."""
    return lambda: functools.partial(parametrizations.orthogonal, orthogonal_map=way)


def geotorch_orthogonal() -> Prepare:
    """Find geotorch's."""
    geotorch = peer("geotorch")
    return lambda layer: geotorch.orthogonal(layer, "weight")


def clamped() -> Prepare:
    """Find the parametrization that keeps weights positive."""
    return lambda layer: parametrize.register_parametrization(layer, "weight", Positive())


def in_training(
    constraint: tc.Constraint | str, *, at_most: float | None = None, seconds: float = 1.0
) -> Question:
    """Return the question what one of our constraints adds to a whole training step."""

    def pair() -> Iterator[Pair]:
        yield training(constraint=constraint), training()

    name = "NonNeg" if constraint == "non_neg" else type(constraint).__name__
    if isinstance(constraint, constraints.SpectralNorm):
        name += f", {constraint.mode}"
    return as_trained(
        f"{name}, {TRAINING}",
        against="no constraint",
        at_most=at_most,
        seconds=seconds,
        headline=at_most is not None,
    )(pair)


def against_parametrization(
    work: str, constraint: tc.Constraint | str, find: Callable[[], Prepare], *, against: str
) -> Question:
    """Return the question how a whole training step compares with one under a parametrization."""

    def pair() -> Iterator[Pair]:
        prepare = find()
        yield training(constraint=constraint), training(prepare)

    return as_trained(work, against=against)(pair)


def each() -> list[Question]:
    """Return the questions what every other ready-made constraint adds to a training step."""
    c = constraints
    kinds: list[tc.Constraint] = [
        *(c.Clip(-0.1, 0.1), c.Masked(torch.ones(WIDTH, WIDTH, device=DEVICE).tril(WIDTH // 2))),
        *(c.MaxNorm(), c.UnitNorm(), c.MinMaxNorm(), c.Simplex(), c.Sparse(8)),
        *(c.Symmetric(), c.PositiveDefinite(), c.SpectralNorm(), c.SpectralNorm(mode="scale")),
    ]
    return [in_training(kind) for kind in kinds]


@question(
    "the hook of an optimizer without constrained parameters", against="the optimizer's whole step"
)
def unconstrained() -> Iterator[Pair]:
    """Time what the hook takes from an optimizer that it has nothing to do for."""
    from torchcreator._optim.hook import after_step

    p = nn.Parameter(torch.zeros(1, device=DEVICE))
    optimizer = torch.optim.SGD([p], lr=0.1)
    p.grad = torch.zeros_like(p)
    hook = torch.compiler.disable(after_step)  # as it is registered
    yield lambda: hook(optimizer, (), {}), optimizer.step


QUESTIONS = [
    by_hand(
        NON_NEG, "non_neg", clamp_at_once, against="`_foreach_clamp_min_` by hand", at_most=1.08
    ),
    by_hand(
        NON_NEG,
        "non_neg",
        clamp_with_gradient,
        against="the same by hand, each gradient asked for first: the floor",
    ),
    by_hand(NON_NEG, "non_neg", clamp_each, against="a loop of `clamp_`"),
    by_hand(NON_NEG, "non_neg", keras_non_neg, against="a loop of Keras' formula"),
    by_hand(MAX_NORM, "max_norm", norm_each, against="a loop by hand", at_most=0.4, headline=True),
    in_training(constraints.Orthogonal(), at_most=2.0, seconds=6.0),
    *(
        against_parametrization(
            ORTHOGONAL, constraints.Orthogonal(), parametrized(way), against=f"parametrize ({way})"
        )
        for way in ("cayley", "matrix_exp", "householder")
    ),
    against_parametrization(
        ORTHOGONAL, constraints.Orthogonal(), geotorch_orthogonal, against="geotorch"
    ),
    in_training("non_neg"),
    against_parametrization(
        f"NonNeg, {TRAINING}", "non_neg", clamped, against="a parametrization by clamp"
    ),
    *each(),
    unconstrained,
    # The last ones: Keras brings threads of its own into the process, and they stay.
    in_keras(NON_NEG, "non_neg", "NonNeg"),
    in_keras(MAX_NORM, "max_norm", "MaxNorm", axis=1),
]

if __name__ == "__main__":
    main(QUESTIONS)
