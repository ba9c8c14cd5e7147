"""The errors of this library, and the form all of them share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TorchCreatorError(Exception):
    """Base of every error raised on purpose by this library.

    An error has three parts: *what* was wrong with what was passed (its value and the variable's
    full name), *why* that cannot work, and what to write *instead*. Each subclass also derives
    from the built-in it specialises, so ``except ValueError`` keeps working::

        TorchCreatorError
        ├── VariableTypeError (TypeError)        an argument of the wrong type
        ├── VariableValueError (ValueError)      an argument of the right type and a wrong value
        ├── CreatorResultError (TypeError)       a creator returned something unusable
        ├── CreatorRecursionError (RecursionError)   a creator called itself for ever
        ├── ScopeError (RuntimeError)            a scope was entered or closed out of turn
        ├── ConstraintError (RuntimeError)       a projection gave no usable result
        ├── BuildError (RuntimeError)            a construction could not be recorded or replayed
        ├── CheckpointError (RuntimeError)       a checkpoint is damaged, or does not fit the model
        ├── ForbiddenError (RuntimeError)        a variable was made where none may be
        ├── DistributedError (RuntimeError)      ranks disagree, or a host cannot do what was asked
        └── MissingExtraError (ImportError)      an optional dependency is not installed

    All of them are public, as ``torchcreator.BuildError`` and so on.

    What a creator raises, or an initial value that is a function, passes as it is. After one of
    these nothing is half done: no name is given away, no scope left open, no declaration kept.

    Args:
        what: What was wrong, with the value and the variable's name.
        why: Why it cannot work.
        instead: What to write instead.

    Example:
        >>> import torchcreator as tc
        >>> try:
        ...     tc.variable([1.0, 2.0], aggregation="average", name="gain")
        ... except tc.TorchCreatorError as error:
        ...     print(error)
        Invalid variable aggregation mode: 'average' (did you mean 'mean'?) for variable: gain
        The aggregation says when or how the values of several ranks become one.
        Use one of 'none', 'sum', 'mean', 'only_first_replica', or a VariableAggregation.
    """

    def __init__(self, what: str, why: str = "", instead: str = "") -> None:
        super().__init__(what, why, instead)

    def __str__(self) -> str:
        return "\n".join(part for part in self.args if part)


class VariableTypeError(TorchCreatorError, TypeError):
    """An argument of the wrong type.

    Example:
        >>> import torchcreator as tc
        >>> try:
        ...     tc.variable([1.0, 2.0], name="gain", requires_grad=False)
        ... except tc.VariableTypeError as error:
        ...     print(str(error).splitlines()[0])
        Variable 'gain' got an unexpected keyword 'requires_grad' (did you mean 'trainable'?).
    """


class VariableValueError(TorchCreatorError, ValueError):
    """An argument of the right type and a wrong value.

    Example:
        >>> import torchcreator as tc
        >>> try:
        ...     tc.creators.aggregate("avg")
        ... except tc.VariableValueError as error:
        ...     print(str(error).splitlines()[0])
        aggregate got the aggregation 'avg' (did you mean 'mean'?).
    """


class CreatorResultError(TorchCreatorError, TypeError):
    """A creator returned something unusable.

    Example:
        >>> import torchcreator as tc
        >>> def forgetful(next_creator, **kwargs):
        ...     next_creator(**kwargs)
        >>> try:
        ...     with tc.creator_scope(forgetful):
        ...         tc.variable(1.0, name="gain")
        ... except tc.CreatorResultError as error:
        ...     print(str(error).splitlines()[0])
        Creator forgetful returned None for variable 'gain'.
    """


class CreatorRecursionError(TorchCreatorError, RecursionError):
    """A creator called itself for ever.

    Example:
        >>> import torchcreator as tc
        >>> def endless(next_creator, **kwargs):
        ...     return tc.variable(**kwargs)  # runs the chain again, and so itself
        >>> try:
        ...     with tc.creator_scope(endless):
        ...         tc.variable(1.0, name="gain")
        ... except tc.CreatorRecursionError as error:
        ...     print(str(error).splitlines()[0])
        Creator endless made variables for ever, the last one 'gain'.
    """


class ScopeError(TorchCreatorError, RuntimeError):
    """A scope was entered or closed out of turn.

    Example:
        >>> import torchcreator as tc
        >>> scope = tc.creator_scope(tc.creators.freeze())
        >>> try:
        ...     with scope, scope:
        ...         pass
        ... except tc.ScopeError as error:
        ...     print(str(error).splitlines()[0])
        creator_scope(freeze()) is already open.
    """


class ConstraintError(TorchCreatorError, RuntimeError):
    """A projection gave no usable result.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> model = torch.nn.Module()
        >>> model.gain = tc.variable([1.0, 2.0], name="gain", constraint=lambda w: w[:1])
        >>> try:
        ...     tc.apply_constraints(model)
        ... except tc.ConstraintError as error:
        ...     print(type(error).__mro__[2].__name__)
        RuntimeError
    """


class BuildError(TorchCreatorError, RuntimeError):
    """A construction could not be recorded or replayed.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> try:
        ...     tc.materialize(nn.Linear(2, 3))
        ... except tc.BuildError as error:
        ...     print(str(error).splitlines()[0])
        This Linear was not deferred, or is materialised already.
    """


class CheckpointError(TorchCreatorError, RuntimeError):
    """A checkpoint is damaged, or does not fit the model.

    Example:
        >>> import torchcreator as tc
        >>> try:
        ...     tc.creators.from_checkpoint("absent.safetensors")
        ... except tc.CheckpointError as error:
        ...     print(str(error).splitlines()[0])
        There is no file 'absent.safetensors'.
    """


class ForbiddenError(TorchCreatorError, RuntimeError):
    """A variable was made where none may be.

    Example:
        >>> import torchcreator as tc
        >>> try:
        ...     with tc.creator_scope(tc.creators.forbid()):
        ...         tc.variable(1.0, name="gain")
        ... except tc.ForbiddenError as error:
        ...     print(str(error).splitlines()[0])
        Variable 'gain' was about to be made inside forbid().
    """


class DistributedError(TorchCreatorError, RuntimeError):
    """Ranks disagree, or a host cannot do what a variable asks for.

    Example:
        >>> import copy, pickle
        >>> import torch.distributed as dist
        >>> import torchcreator as tc
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> gain = tc.variable(1.0, name="gain", process_group=dist.new_group([0]))
        >>> loaded = pickle.loads(pickle.dumps(gain))  # a process group cannot be saved
        >>> dist.destroy_process_group()
        >>> try:
        ...     tc.spec_of(loaded).group()
        ... except tc.DistributedError as error:
        ...     print(str(error).splitlines()[1])
        A process group cannot be pickled, and the default group would be another one.
    """


class MissingExtraError(TorchCreatorError, ImportError):
    """An optional dependency is not installed.

    Example:
        >>> import torchcreator as tc
        >>> issubclass(tc.MissingExtraError, ImportError)
        True
    """


def shown(value: object, limit: int = 200) -> str:
    """Return the ``repr`` of a value as a message shows it: never an error, and not for ever."""
    try:
        text = repr(value)
    except Exception:  # whatever is wrong with it, the message is about something else
        text = object.__repr__(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def called(function: object) -> str:
    """Return what a message calls a function: its name, or what it looks like."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else shown(function)


class _Unnamed(str):
    """The name of a variable that was given none: messages say so instead of quoting it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "without a name"


UNNAMED = _Unnamed("Variable")
"""What an unnamed variable is called; ``f"variable {UNNAMED!r}"`` is "variable without a name"."""


def labelled(name: str | None) -> str:
    """Return the name that a caller gave, whatever it is, or what an unnamed variable is called."""
    return UNNAMED if name is None else name


_OTHERS_WORDS = {
    "average": "mean",
    "avg": "mean",
    "axis": "dim",
    "gpu": "cuda",
    "group": "process_group",
    "init": "initial_value",
    "initializer": "initial_value",
    "requires_grad": "trainable",
    "value": "initial_value",
}
"""What others call things, torch among them; no spelling leads from these to ours."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, or an empty string."""
    if not isinstance(word, str):
        return ""
    known = list(known)
    ours = _OTHERS_WORDS.get(word.lower())
    near = [ours] if ours in known else difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
