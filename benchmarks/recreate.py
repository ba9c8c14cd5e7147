"""What it costs to send a finished model through a creator: ``python -m benchmarks.recreate``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import DEVICE, Pair, question
from benchmarks._run import main
from benchmarks.stock_modules import identity
from torchcreator._chain.open_scopes import current
from torchcreator._modules.registration import through
from torchcreator._modules.stock_parameter import StockTarget

PARAMETERS = 1000
PASSING = f"`recreate` of {PARAMETERS:,} parameters, a creator that passes on"


def finished() -> nn.Module:
    """Return a model of many small layers."""
    return nn.ModuleList(nn.Linear(16, 16, device=DEVICE) for _ in range(PARAMETERS // 2))


def _declared(**kwargs: Any) -> Any:
    """End a chain with a declaration, and the parameter as it is."""
    declared: tuple[Any, ...] = (
        *(kwargs["name"], kwargs["shape"], kwargs["dtype"], kwargs["trainable"]),
        *(kwargs["constraint"], kwargs["synchronization"], kwargs["aggregation"]),
        *(kwargs["caching_device"], kwargs["process_group"], {}, kwargs["validate_shape"]),
    )
    return kwargs["initial_value"], tc.VariableSpec(*declared)


def _by_hand(model: nn.Module) -> None:
    """Call the creator for each parameter, with all the keywords, and write what it declares."""
    list(model.named_parameters())
    declared = {}
    for name, parameter in model.named_parameters():
        declared[name] = identity(
            _declared,
            initial_value=parameter,
            trainable=parameter.requires_grad,
            validate_shape=True,
            caching_device=None,
            name=name,
            dtype=parameter.dtype,
            constraint=None,
            synchronization=tc.VariableSynchronization.AUTO,
            aggregation=tc.VariableAggregation.NONE,
            shape=parameter.shape,
            device=parameter.device,
            process_group=None,
            tags=None,
            module=model,
        )


@question(PASSING, against="2 × `named_parameters()` and the chain's calls by hand", at_most=1.5)
def against_by_hand() -> Iterator[Pair]:
    """Time it against two passes over the parameters, and a call of the creator for each."""
    model = finished()

    def ours() -> None:
        with tc.creator_scope(identity):
            tc.recreate(model)

    yield ours, lambda: _by_hand(model)


def _by_the_chain(model: nn.Module) -> None:
    """Let each parameter pass the open scope as a stock module's does, to the true end."""
    list(model.named_parameters())
    with tc.creator_scope(identity):
        link = current.get()
        assert link is not None
        for name, parameter in model.named_parameters():
            through(link.module_step, StockTarget(model, name, parameter))


@question(PASSING, against="2 × `named_parameters()` and the chain that stock modules pass")
def against_the_chain() -> Iterator[Pair]:
    """Time it against two passes over the parameters, and the true chain for each.

    The true end does more than the one by hand: it looks whether all keywords came back.
    """
    model = finished()

    def ours() -> None:
        with tc.creator_scope(identity):
            tc.recreate(model)

    yield ours, lambda: _by_the_chain(model)


@question(
    f"constructing {PARAMETERS:,} parameters, then `recreate`, a creator that passes on",
    against="constructing them in its scope, and 2 × `named_parameters()`",
    at_most=1.0,
)
def against_construction() -> Iterator[Pair]:
    """Time it against the same creator where the model is constructed: what the chain costs there.

    That is the true chain with all that finds a stock module's parameters.
    """

    def ours() -> None:
        model = finished()
        with tc.creator_scope(identity):
            tc.recreate(model)

    def theirs() -> None:
        with tc.creator_scope(identity):
            model = finished()
        list(model.named_parameters())
        list(model.named_parameters())

    yield ours, theirs


@question(PASSING, against="`list(model.named_parameters())`")
def against_named_parameters() -> Iterator[Pair]:
    """Time it against a pass over the parameters."""
    model = finished()

    def ours() -> None:
        with tc.creator_scope(identity):
            tc.recreate(model)

    yield ours, lambda: list(model.named_parameters())


@question(f"`recreate` of {PARAMETERS:,} parameters, `cast`", against="`model.to`")
def against_to() -> Iterator[Pair]:
    """Time a conversion there and back against torch's own, which asks nobody."""
    model, theirs = finished(), finished()

    def ours() -> None:
        for dtype in (torch.bfloat16, torch.float32):
            with tc.creator_scope(tc.creators.cast(dtype)):
                tc.recreate(model)

    yield ours, lambda: theirs.to(torch.bfloat16).to(torch.float32)


QUESTIONS = [
    against_by_hand,
    against_the_chain,
    against_construction,
    against_named_parameters,
    against_to,
]

if __name__ == "__main__":
    main(QUESTIONS)
