"""What variables, creators and scopes cost: ``python -m benchmarks.core``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

import torchcreator as tc
from benchmarks._measure import Ratio, compare, print_table
from torchcreator import _watch

DEPTH = 20
MODULES = 300

answer = nn.Parameter(torch.zeros(1))
keywords: dict[str, Any] = {}


def identity(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """Pass on what came."""
    return next_creator(**kwargs)


def answering(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """End the chain: what is left is the chain itself."""
    return answer


def remembering(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """Keep the keywords that creators receive, for the chains written by hand."""
    keywords.update(kwargs)
    return answer


def one_variable() -> Ratio:
    """Time one small variable, outside any scope, against the parameter alone."""
    value = torch.zeros(8)
    return compare(
        "`variable(z)` without a scope, against `nn.Parameter(z.clone())`",
        lambda: tc.variable(value),
        lambda: nn.Parameter(value.clone()),
        at_most=1.6,
    )


def levels() -> Iterator[Ratio]:
    """Time a chain of creators that do nothing against the same chain written by hand."""
    with tc.creator_scope(remembering):
        tc.variable(0.0)
    with ExitStack() as scopes:
        for creator in (answering, *[identity] * DEPTH):
            scopes.enter_context(tc.creator_scope(creator))
        yield compare(
            f"{DEPTH} creators that pass everything on, against a chain of closures",
            lambda: tc.variable(0.0),
            chained(by_closure),
            at_most=1.2,
        )
        yield compare(
            f"{DEPTH} creators that pass everything on, against a chain of `partial`s",
            lambda: tc.variable(0.0),
            chained(functools.partial),
        )


def by_closure(creator: Callable[..., Any], onward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a creator with the rest of the chain bound to it, as one would write it by hand."""
    return lambda **kwargs: creator(onward, **kwargs)


def chained(bind: Callable[..., Callable[..., Any]]) -> Callable[[], object]:
    """Return a call of a chain as deep as ours, with the keywords that ours passes on."""
    chain = bind(answering, identity)
    for _ in range(DEPTH):
        chain = bind(identity, chain)
    return lambda: chain(**keywords)


def entering() -> Ratio:
    """Time entering and leaving a scope against the least that a context variable costs."""
    variable: ContextVar[object] = ContextVar("variable", default=None)

    def ours() -> None:
        with tc.creator_scope(identity):
            pass

    def theirs() -> None:
        variable.reset(variable.set(None))

    return compare("entering and leaving a scope, against `ContextVar` set and reset", ours, theirs)


def plain() -> list[nn.Linear]:
    """Make many small stock modules."""
    return [nn.Linear(16, 16) for _ in range(MODULES)]


def without_a_scope() -> Ratio:
    """Time stock modules after a scope was used and closed, against torch without our hook."""
    with tc.creator_scope(identity):
        pass
    ours = _watch.hooks()

    def untouched() -> None:
        for hook in ours:
            hook.handle.remove()
        plain()
        list(_watch.reinstall_lost_hooks())

    return compare(
        f"{MODULES} `nn.Linear(16, 16)` with no scope open, against without our hook",
        plain,
        untouched,
        seconds=5.0,
        at_most=1.02,
    )


def stock_modules() -> Ratio:
    """Time many small stock modules in a scope against the same ones without."""

    def in_a_scope() -> None:
        with tc.creator_scope(identity):
            plain()

    return compare(
        f"{MODULES} `nn.Linear(16, 16)` in a scope whose creator passes everything on",
        in_a_scope,
        plain,
        seconds=5.0,
        at_most=1.35,
    )


def main() -> None:
    """Print every row."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread\n")
    print_table([one_variable(), *levels(), entering(), without_a_scope(), stock_modules()])


if __name__ == "__main__":
    main()
