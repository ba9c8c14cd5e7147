"""What a scope adds to modules that know nothing of it: ``python -m benchmarks.stock_modules``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

import torchcreator as tc
from benchmarks._measure import DEVICE, Pair, question
from benchmarks._peers import peer
from benchmarks._run import main
from torchcreator._torch import hooks

MODULES = 300
SCOPE = f"{MODULES} `nn.Linear(16, 16)` in a scope with one creator"
CLOSED = f"{MODULES} `nn.Linear(16, 16)` after a scope was closed"


def identity(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """Pass on what came."""
    return next_creator(**kwargs)


def plain() -> list[nn.Linear]:
    """Make many small stock modules."""
    return [nn.Linear(16, 16, device=DEVICE) for _ in range(MODULES)]


def in_a_scope() -> list[nn.Linear]:
    """Make them where a creator is asked for each parameter."""
    with tc.creator_scope(identity):
        return plain()


@question(SCOPE, against="no scope", seconds=6.0, at_most=1.35)
def against_none() -> Iterator[Pair]:
    """Time many small modules in a scope against the same ones without."""
    yield in_a_scope, plain


@question(SCOPE, against="a registration hook that returns")
def against_a_hook() -> Iterator[Pair]:
    """Time it against the least that seeing each parameter costs."""

    def theirs() -> None:
        handle = register_module_parameter_registration_hook(lambda module, name, parameter: None)
        plain()
        handle.remove()

    yield in_a_scope, theirs


@question(SCOPE, against="a `TorchFunctionMode` that passes on")
def against_a_mode() -> Iterator[Pair]:
    """Time it against torch's own way to see what is made."""

    class Passing(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    def theirs() -> None:
        with Passing():
            plain()

    yield in_a_scope, theirs


@question(SCOPE, against='`torch.device("meta")`')
def against_meta() -> Iterator[Pair]:
    """Time it against the scope that torch ships."""

    def theirs() -> None:
        with torch.device("meta"):
            [nn.Linear(16, 16) for _ in range(MODULES)]

    yield in_a_scope, theirs


@question(SCOPE, against="`accelerate.init_on_device`")
def against_accelerate() -> Iterator[Pair]:
    """Time it against accelerate's scope, which replaces `register_parameter` meanwhile."""
    accelerate = peer("accelerate")

    def theirs() -> None:
        with accelerate.init_on_device(DEVICE):
            plain()

    yield in_a_scope, theirs


@question("GPT-2 in a scope with one creator", against="no scope", seconds=12.0)
def gpt2_in_a_scope() -> Iterator[Pair]:
    """Time a model of a usual size, where the creator drowns."""
    from benchmarks._models import gpt2

    def ours() -> None:
        with tc.creator_scope(identity):
            gpt2()

    yield ours, gpt2


@question(CLOSED, against="torch without our hook", seconds=6.0, at_most=1.02)
def without_a_scope() -> Iterator[Pair]:
    """Time modules outside any scope, where our hook looks and leaves."""
    with tc.creator_scope(identity):
        pass
    ours = hooks.hooks()

    def theirs() -> None:
        for hook in ours:
            hook.handle.remove()
        plain()
        list(hooks.reinstall_lost_hooks())

    yield plain, theirs


QUESTIONS = [
    *(against_none, against_a_hook, against_a_mode, against_meta, against_accelerate),
    *(gpt2_in_a_scope, without_a_scope),
]

if __name__ == "__main__":
    main(QUESTIONS)
