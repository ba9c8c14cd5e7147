"""Which options an optimizer has: torch takes any, and reads those that it knows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator

import torch

from torchcreator._call_site import warn
from torchcreator._errors import VariableTypeError, VariableValueError, did_you_mean, shown

_SCHEDULERS = {
    "base_momentum",
    "initial_lr",
    "max_lr",
    "max_momentum",
    "min_lr",
    "name",
    "swa_lr",
}
"""What torch's schedulers read in a group, and what people call one."""


def options_of(optimizer: object) -> set[str] | None:
    """Return the options of an optimizer's groups; None where they cannot be known.

    Raises:
        VariableTypeError: It is no class of optimizers.
    """
    if not (isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)):
        raise VariableTypeError(
            f"param_groups() got optimizer={shown(optimizer)}.",
            "It is the class that will read the groups: they are made before it is.",
            "Pass the class, param_groups(model, optimizer=torch.optim.AdamW), say.",
        )
    parameters = inspect.signature(optimizer).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return None
    return {*parameters} - {"params"} | _SCHEDULERS


def warn_of_unknown(options: Iterable[str]) -> None:
    """Warn of options that no optimizer of this process has."""
    unknown = set(options) - _torchs()
    if not unknown:
        return
    known = set(_torchs())
    for kind in _kinds(torch.optim.Optimizer):
        known |= set(inspect.signature(kind).parameters)
    for option in sorted(unknown):
        if option not in known:
            warn(
                f"No optimizer in this process has an option {option!r}"
                f"{did_you_mean(option, known)}.",
                "torch takes any key in a parameter group, and reads those that it knows.",
                "Correct it; param_groups(model, optimizer=torch.optim.AdamW), say, refuses "
                "what that one has not.",
            )


@functools.cache
def _torchs() -> frozenset[str]:
    """Return the options of torch's own optimizers and schedulers."""
    found = set(_SCHEDULERS)
    for kind in _kinds(torch.optim.Optimizer):
        if kind.__module__.startswith("torch.optim."):
            found |= set(inspect.signature(kind).parameters)
    return frozenset(found)


def check_options(options: Iterable[str], known: set[str] | None, kind: str, owner: str) -> None:
    """Raise for an option that an optimizer does not have.

    Args:
        options: What a parameter declares.
        known: The options that the optimizer has; None where they cannot be known.
        kind: What the optimizer is called.
        owner: What declares them, in words.
    """
    for option in options:
        if known is not None and option not in known:
            raise VariableValueError(
                f"{kind} has no option {option!r}{did_you_mean(option, known)}, which {owner}.",
                "torch takes any key in a parameter group, and reads those that it knows.",
                f"Use what it has: {', '.join(sorted(known - _SCHEDULERS))}.",
            )


def _kinds(kind: type[torch.optim.Optimizer]) -> Iterator[type[torch.optim.Optimizer]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _kinds(inner)
