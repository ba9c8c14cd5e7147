"""`build` and `defer`: construct any model through creators, with full names and true values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container
from contextlib import nullcontext
from typing import Any, TypeVar, overload

import torch
from torch import nn
from typing_extensions import ParamSpec

from torchcreator._build.fill import fill
from torchcreator._chain import open_scopes
from torchcreator._chain.checks import checked_device
from torchcreator._errors import VariableTypeError, called, shown
from torchcreator._modules.pinned import keeps
from torchcreator._recorder.live_tensors import Objects
from torchcreator._recorder.origins import note_origins
from torchcreator._recorder.recording import Recording, inside_another_recorder, record
from torchcreator._spec.types import Device

P = ParamSpec("P")
Model = TypeVar("Model", bound=nn.Module)

# A type checker holds a factory's arguments against its signature; not beside device= and seed=,
# for a ParamSpec has no place for them. At run time the factory itself refuses what is wrong.


@overload
def build(
    factory: Callable[..., Model],
    *args: Any,
    device: Device | None,
    seed: int | None = None,
    **kwargs: Any,
) -> Model: ...
@overload
def build(factory: Callable[..., Model], *args: Any, seed: int | None, **kwargs: Any) -> Model: ...
@overload
def build(factory: Callable[P, Model], *args: P.args, **kwargs: P.kwargs) -> Model: ...
def build(  # type: ignore[misc]  # it takes some of them for its own
    factory: Callable[..., Model],
    *args: Any,
    device: Device | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> Model:
    """Construct a model so that creators see each final parameter, with its true initial value.

    The factory runs on the meta device while its operations are recorded. Then the creators of
    the open scopes are called once for every parameter, in the order of ``named_parameters``, with
    its full name, owner, shape, dtype, device and an ``initial_value`` callable that replays
    exactly what the constructor did to it. A creator that answers without calling it costs neither
    memory nor initialisation. A tied parameter comes once, with all its names in
    ``tags["names"]``. Every tensor object that the constructor keeps stays the object it is.

    Without ``seed``, values and the state of the default generator are bit-identical to
    ``factory(*args, **kwargs)``, whatever creators skip. With it, every draw has a stream of
    its own, from the seed and the parameter's full name: values do not depend on what else is
    skipped, reordered, sharded or made at the same time, and the default generator is left alone.
    In both ways what is overwritten or skipped is not drawn, and several threads work.

    Inside another recorder or a ``FakeTensorMode`` the factory is simply called, on ``device``.

    Args:
        factory: Called as ``factory(*args, **kwargs)``; a module class, say. Returns one module.
        *args: Its arguments.
        device: torch's default device while it runs; ``"meta"`` leaves it there. A factory that
            has a parameter of that name is passed it too.
        seed: The seed of the streams, or None for the default generator. A factory that has a
            parameter of that name gets it otherwise: ``build(partial(factory, seed=1), seed=0)``.
        **kwargs: Its keyword arguments. Type checkers compare ``args`` and ``kwargs`` with the
            factory where neither ``device`` nor ``seed`` is passed, which Python's types leave no
            room for beside them; else ``build(partial(factory, ...), seed=0)`` is compared.

    Returns:
        What the factory returned.

    Raises:
        VariableTypeError: The factory returned something else than one module, is a module
            itself, or has a ``seed`` of its own.
        BuildError: Something in the constructor cannot be recorded or replayed, or leaves a
            parameter uninitialised; it names the parameter, the operation and the line.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> def halved(next_creator, **kwargs):
        ...     print(kwargs["name"], tuple(kwargs["shape"]))
        ...     initial_value = kwargs["initial_value"]
        ...     kwargs["initial_value"] = lambda: initial_value() / 2
        ...     return next_creator(**kwargs)
        >>> with tc.creator_scope(halved):
        ...     model = tc.build(lambda: nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()))
        0.weight (2,)
        0.bias (2,)
        >>> model[0].weight.tolist()
        [0.5, 0.5]
    """
    seed = checked_seed(seed, "build()")
    kwargs = factory_arguments("build()", factory, args, kwargs, device=device, seed=seed)
    place = checked_place(device, "build()")
    if inside_another_recorder():
        with nullcontext() if place is None else place:
            return factory(*args, **kwargs)
    model, recording, objects = recorded(factory, args, kwargs, device=place, seed=seed, find=True)
    fill(model, recording, objects)
    recording.draws.finish()
    return model


@overload
def defer(
    factory: Callable[..., Model],
    *args: Any,
    device: Device | None,
    seed: int | None = None,
    **kwargs: Any,
) -> Model: ...
@overload
def defer(factory: Callable[..., Model], *args: Any, seed: int | None, **kwargs: Any) -> Model: ...
@overload
def defer(factory: Callable[P, Model], *args: P.args, **kwargs: P.kwargs) -> Model: ...
def defer(  # type: ignore[misc]  # it takes some of them for its own
    factory: Callable[..., Model],
    *args: Any,
    device: Device | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> Model:
    """Construct a model without memory; `materialize` gives it its values later.

    The model is on the meta device. It can be inspected, edited, deep-copied, converted and sharded
    (``fully_shard``, ``distribute_module``, ``parallelize_module``), and takes its values, the same
    ones, at `materialize`. Its default draws start from the default generator's state of now, which
    deferring leaves as it is: two models deferred in a row without ``seed`` start alike.

    Creators are not called before `materialize`. Inside another recorder or a ``FakeTensorMode``
    the factory is simply called, on ``device``.

    Args:
        factory: Called as ``factory(*args, **kwargs)``; returns one module.
        *args: Its arguments.
        device: torch's default device while it runs: where the model will be; as in `build`.
        seed: The seed of the streams, as in `build`.
        **kwargs: Its keyword arguments.

    Returns:
        What the factory returned, on meta.

    Raises:
        VariableTypeError: The factory returned something else than one module, is a module
            itself, or has a ``seed`` of its own.
        BuildError: Something in the constructor cannot be recorded.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> model = tc.defer(nn.Linear, 4, 2, seed=0)
        >>> model.weight.is_meta
        True
        >>> tc.materialize(model).weight.is_meta
        False
    """
    seed = checked_seed(seed, "defer()")
    kwargs = factory_arguments("defer()", factory, args, kwargs, device=device, seed=seed)
    place = checked_place(device, "defer()")
    if inside_another_recorder():
        with nullcontext() if place is None else place:
            return factory(*args, **kwargs)
    model, recording, _ = recorded(factory, args, kwargs, device=place, seed=seed, find=False)
    recording.draws.put_back()
    note_origins(model, recording)
    return model


def recorded(
    factory: Callable[..., Model],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    device: torch.device | None,
    seed: int | None,
    find: bool,
) -> tuple[Model, Recording, Objects]:
    """Run a factory under the recorder, outside the open scopes: creators run once, at the end."""
    around = open_scopes.closed()
    return record(
        factory, args, kwargs, device=device, seed=seed, find=find, around=around, keeps=keeps
    )


def factory_arguments(
    caller: str,
    factory: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    device: Any,
    seed: int | None,
) -> dict[str, Any]:
    """Return the keyword arguments of a factory, with the device if it takes one itself.

    Args:
        caller: The function that was called, for errors.
        factory: The factory.
        args: Its arguments.
        kwargs: Its keyword arguments, less those that the caller has taken for its own.
        device: The caller's device, as it was given.
        seed: The caller's seed.

    Raises:
        VariableTypeError: It is a model, or it has a ``seed`` too, which means something else.
    """
    if isinstance(factory, nn.Module):
        kind = type(factory).__name__
        raise VariableTypeError(
            f"{caller} got a {kind} that is made already.",
            "Creators decide how a model is made, while it is.",
            f"Write {caller[:-1]}{kind}, ...): the class, and its arguments.",
        )
    if device is None and seed is None:
        return kwargs
    unset = _unset(factory, args, kwargs)
    if seed is not None and "seed" in unset:
        raise VariableTypeError(
            f"{caller} got seed={seed}, and {called(factory)} has a seed of its own.",
            f"The one of {caller} makes the streams of all draws; the factory would not see it.",
            f"Bind the factory's: {caller[:-1]}functools.partial({called(factory)}, seed=...), "
            f"..., seed={seed}), or a lambda.",
        )
    # Both mean where the model is to be; the factory may do more with it than torch's default does.
    return {**kwargs, "device": device} if device is not None and "device" in unset else kwargs


def _unset(
    factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Container[str]:
    """Return the parameters of a factory that it would take by name and was not given."""
    bound: dict[str, Any] = {}
    while isinstance(factory, functools.partial):
        args, bound, factory = (*factory.args, *args), {**factory.keywords, **bound}, factory.func
    try:
        signature = inspect.signature(factory)
        given = signature.bind_partial(*args, **{**bound, **kwargs}).arguments
    except (TypeError, ValueError):  # a builtin tells nothing; a wrong call fails by itself
        return ()
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in _BY_NAME and name not in given
    ]


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def checked_place(device: Any, caller: str) -> torch.device | None:
    """Return the device to build on, or None for whatever the constructor chooses."""
    if device is None and torch.get_default_device().type == "meta":
        return torch.device("meta")  # the caller's `with torch.device("meta")` is outside
    return checked_device(device, caller)


def checked_seed(seed: Any, caller: str) -> int | None:
    """Return ``seed`` if it is one or None."""
    if seed is None or (isinstance(seed, int) and not isinstance(seed, bool)):
        return seed
    raise VariableTypeError(
        f"{caller} got seed={shown(seed)}.",
        "A seed is an integer, from which every draw's stream is made.",
        "Pass an int, or None to draw from the default generator as the plain constructor does.",
    )
