"""`inspect`: every variable of a model, also of one that does not exist yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from torchcreator._build.build import checked_place, checked_seed, factory_arguments, recorded
from torchcreator._chain.closing import relinked
from torchcreator._chain.open_scopes import current
from torchcreator._chain.scope import linked
from torchcreator._errors import VariableTypeError, called, shown
from torchcreator._recorder.recording import Recording, inside_another_recorder
from torchcreator._spec.held import Held, held_by
from torchcreator._spec.types import Device
from torchcreator.report._inventory import Inventory
from torchcreator.report._preview import foresee
from torchcreator.report._reading import buffers_of, place_of, recording_of, row_of
from torchcreator.report._rows import Decision, Row
from torchcreator.report._trace import Trace, tracing

Decided = dict[int, tuple[Decision, ...]]
"""What creators decided, by the parameter's id."""


def inspect(
    model_or_factory: nn.Module | Callable[..., nn.Module],
    /,
    *args: Any,
    device: Device | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> Inventory:
    """Return what variables a model has: how large, where, under which policy, and who decided it.

    A model is read as it stands, deferred and sharded ones too. A factory, a class say, is called
    as `defer` calls it: no parameter gets memory or a value, and the default generator is left
    alone. Then the creators of the open scopes are asked about each parameter, as `build` would
    ask them, and what each of them changes is noted, also in scopes that the factory opens
    itself. What a creator makes without calling on, it makes.

    Args:
        model_or_factory: A module, or what returns one.
        *args: The factory's arguments.
        device: torch's default device while the factory runs, as in `build`.
        seed: The seed of the streams, as in `build`.
        **kwargs: The factory's keyword arguments.

    Raises:
        VariableTypeError: It is neither a module nor a factory of one.
        BuildError: Something in the constructor cannot be recorded.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.freeze(name="*.bias")):
        ...     inventory = tc.inspect(lambda: nn.Sequential(nn.Linear(20_000, 50_000)))
        >>> print(inventory["0.bias"].decisions[0])
        freeze(name='*.bias'): trainable True -> False
        >>> inventory.nbytes
        4000200000
    """
    if isinstance(model_or_factory, nn.Module):
        if args or kwargs:
            raise _model_with_arguments(model_or_factory)
        return _read(model_or_factory, type(model_or_factory).__name__, {})
    if not callable(model_or_factory):
        raise _not_a_model(model_or_factory)
    place, seed = checked_place(device, "inspect()"), checked_seed(seed, "inspect()")
    given: dict[str, Any] = {"device": device, "seed": seed}
    kwargs = factory_arguments("inspect()", model_or_factory, args, kwargs, **given)
    with tracing() as trace:
        if inside_another_recorder():
            model, recording = _plain(model_or_factory, args, kwargs, place), None
        else:
            model, recording, _ = recorded(
                model_or_factory, args, kwargs, device=place, seed=seed, find=False
            )
            recording.draws.put_back()
        decided = _inside(trace, held_by(model))
        name = called(model_or_factory)
        if recording is None or current.get() is None:
            return _read(model, name, decided, recording)
        return _foresee(model, name, decided, recording_of(model) or recording, trace)


def _plain(
    factory: Callable[..., nn.Module], args: Any, kwargs: Any, device: torch.device | None
) -> nn.Module:
    """Call a factory with the open scopes around it: within a recorder, creators act at once."""
    token = current.set(relinked(current.get(), linked))
    try:
        with nullcontext() if device is None else device:
            model = factory(*args, **kwargs)
    finally:
        current.reset(token)
    if not isinstance(model, nn.Module):
        raise _not_a_model(model)
    return model


def _inside(trace: Trace, parameters: Sequence[Held]) -> Decided:
    """Return what the creators of the factory's own scopes decided about each parameter."""
    journeys = {id(j.parameter): j for j in trace.journeys}
    # Deep copies of a parameter have its declaration; those of a declaration are the same object.
    declared = {id(j.declaration): j for j in trace.journeys if j.declaration is not None}
    decided: Decided = {}
    for held in parameters:
        journey = declared.get(id(held.spec)) or journeys.get(id(held.parameter))
        if journey is not None:
            decided[id(held.parameter)] = journey.changes
    return decided


def _read(
    model: nn.Module, name: str, decided: Decided, recording: Recording | None = None
) -> Inventory:
    """Return the inventory of a model as it stands."""
    recording = recording_of(model) or recording
    rows = [
        row_of(
            held,
            held.parameter,
            held.spec,
            place_of(held, recording),
            decided.get(id(held.parameter), ()),
        )
        for held in held_by(model)
    ]
    return Inventory(name, tuple(rows), *buffers_of(model))


def _foresee(
    model: nn.Module, name: str, decided: Decided, recording: Recording, trace: Trace
) -> Inventory:
    """Return the inventory of what the creators of the open scopes would make of a model."""
    parameters = held_by(model)
    foreseen = foresee(model, recording, parameters, trace)
    rows: dict[int, Row] = {}
    for held, future in zip(parameters, foreseen, strict=True):
        journey = future.journey
        made = journey.parameter
        assert made is not None  # the chain returned it
        if (first := rows.get(id(made))) is not None:  # a creator that ties
            rows[id(made)] = dataclasses.replace(first, ties=(*first.ties, *held.names))
            continue
        spec = held.spec if journey.declaration is None else journey.declaration
        decisions = (*decided.get(id(held.parameter), ()), *journey.changes)
        rows[id(made)] = row_of(held, made, spec, future.place, decisions)
    return Inventory(name, tuple(rows.values()), *buffers_of(model))


def _not_a_model(value: object) -> VariableTypeError:
    return VariableTypeError(
        f"inspect() got {shown(value)}.",
        "It lists the parameters of one torch.nn.Module.",
        "Pass a model, a class, or a function that returns a model, with its arguments.",
    )


def _model_with_arguments(model: nn.Module) -> VariableTypeError:
    return VariableTypeError(
        f"inspect() got a {type(model).__name__} that is made already, and arguments.",
        "Arguments are for the factory that makes a model.",
        f"Write inspect(model), or inspect({type(model).__name__}, ...).",
    )
