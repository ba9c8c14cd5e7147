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
from benchmarks._measure import DEVICE, Pair, question
from benchmarks._peers import peer
from benchmarks._run import main

DEPTH = 20
ONE = "`variable(z)` without a scope"
LEVELS = f"a variable through {DEPTH} creators that pass it on"
ENTRY = "entering and leaving a scope"

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


@question(ONE, against="`nn.Parameter(z.clone())`", at_most=1.6)
def one_variable() -> Iterator[Pair]:
    """Time one small variable against the parameter alone."""
    value = torch.zeros(8, device=DEVICE)
    yield lambda: tc.variable(value), lambda: nn.Parameter(value.clone())


@question(ONE, against="`keras.Variable(z)` on torch")
def one_in_keras() -> Iterator[Pair]:
    """Time one small variable against that of Keras, which makes a parameter as well."""
    keras, value = peer("keras"), torch.zeros(8)
    yield lambda: tc.variable(value), lambda: keras.Variable(value)


@question(ONE, against="`tf.Variable(z)`")
def one_in_tensorflow() -> Iterator[Pair]:
    """Time one small variable against the original."""
    tf, value = peer("tensorflow"), torch.zeros(8)
    theirs = tf.zeros(8)
    yield lambda: tc.variable(value), lambda: tf.Variable(theirs)


@question("100 times `variable(z)` without a scope", against="`hk.get_parameter`, its values ready")
def hundred_in_haiku() -> Iterator[Pair]:
    """Time variables against what Haiku's Python takes, without a computation by JAX."""
    hk, value = peer("haiku"), torch.zeros(8)
    ready = peer("numpy").zeros(8, "float32")

    def ours() -> None:
        for _ in range(100):
            tc.variable(value)

    def function() -> None:
        for number in range(100):
            hk.get_parameter(f"w{number}", (8,), init=lambda shape, dtype: ready)

    init = hk.transform(function).init
    yield ours, lambda: init(None)


def in_scopes(stack: ExitStack, scope: Callable[[Any], Any]) -> None:
    """Enter a scope for each level, the innermost ones passing on, the outermost answering."""
    for creator in (answering, *[identity] * DEPTH):
        stack.enter_context(scope(creator))


@question(LEVELS, against="a chain of closures", at_most=1.2, headline=True)
def against_closures() -> Iterator[Pair]:
    """Time a chain of creators that do nothing against the same chain written by hand."""
    yield from levels(by_closure)


@question(LEVELS, against="a chain of `partial`s")
def against_partials() -> Iterator[Pair]:
    """Time it against the other chain that one writes by hand."""
    yield from levels(functools.partial)


def levels(bind: Callable[..., Callable[..., Any]]) -> Iterator[Pair]:
    """Yield our chain and one made by hand."""
    with tc.creator_scope(remembering):
        tc.variable(0.0)
    with ExitStack() as scopes:
        in_scopes(scopes, tc.creator_scope)
        yield lambda: tc.variable(0.0), chained(bind)


@question(LEVELS, against="`tf.variable_creator_scope`")
def against_tensorflow() -> Iterator[Pair]:
    """Time it against the original."""
    tf = peer("tensorflow")
    with ExitStack() as scopes:
        in_scopes(scopes, tc.creator_scope)
        in_scopes(scopes, tf.variable_creator_scope)
        yield lambda: tc.variable(0.0), lambda: tf.Variable(0.0)


@question(
    f"100 variables through {DEPTH} creators that pass them on", against="`hk.custom_creator`"
)
def against_haiku() -> Iterator[Pair]:
    """Time it against Haiku's chain, inside one `hk.transform`."""
    hk = peer("haiku")
    ready = peer("numpy").zeros(1, "float32")

    def passing(next_creator: Any, shape: Any, dtype: Any, init: Any, context: Any) -> Any:
        return next_creator(shape, dtype, init)

    def last(next_creator: Any, shape: Any, dtype: Any, init: Any, context: Any) -> Any:
        return ready

    def function() -> None:
        with ExitStack() as scopes:
            for creator in (*[passing] * DEPTH, last):  # here the outermost is called first
                scopes.enter_context(hk.custom_creator(creator))
            for number in range(100):
                hk.get_parameter(f"w{number}", (1,), init=None)

    def ours() -> None:
        with ExitStack() as scopes:
            in_scopes(scopes, tc.creator_scope)
            for _ in range(100):
                tc.variable(0.0)

    init = hk.transform(function).init
    yield ours, lambda: init(None)


def by_closure(creator: Callable[..., Any], onward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a creator with the rest of the chain bound to it, as one would write it by hand."""
    return lambda **kwargs: creator(onward, **kwargs)


def chained(bind: Callable[..., Callable[..., Any]]) -> Callable[[], object]:
    """Return a call of a chain as deep as ours, with the keywords that ours passes on."""
    chain = bind(answering, identity)
    for _ in range(DEPTH):
        chain = bind(identity, chain)
    return lambda: chain(**keywords)


def ours_entered() -> None:
    """Enter and leave a scope."""
    with tc.creator_scope(identity):
        pass


@question(ENTRY, against="`ContextVar` set and reset", at_most=1.0 / 0.3)
def entering() -> Iterator[Pair]:
    """Time a scope against the least that a context variable costs."""
    variable: ContextVar[object] = ContextVar("variable", default=None)

    def theirs() -> None:
        variable.reset(variable.set(None))

    yield ours_entered, theirs


@question(ENTRY, against="`tf.variable_creator_scope`")
def entering_in_tensorflow() -> Iterator[Pair]:
    """Time a scope against the original."""
    tf = peer("tensorflow")

    def theirs() -> None:
        with tf.variable_creator_scope(identity):
            pass

    yield ours_entered, theirs


QUESTIONS = [
    *(one_variable, one_in_keras, one_in_tensorflow, hundred_in_haiku),
    *(against_closures, against_partials, against_tensorflow, against_haiku),
    *(entering, entering_in_tensorflow),
]

if __name__ == "__main__":
    main(QUESTIONS)
