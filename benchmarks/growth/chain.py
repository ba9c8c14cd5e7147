"""How the cost of one variable grows with the number of creators that pass it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torchcreator as tc
from benchmarks._measure import Pair, Question, question
from benchmarks._peers import peer
from benchmarks._run import main
from benchmarks.core import answering, by_closure, identity, keywords, remembering

DEPTHS = (0, 1, 2, 5, 10, 20, 50, 100)


def entered(stack: ExitStack, scope: Callable[[Any], Any], depth: int) -> None:
    """Enter a scope that answers, and inside it one for each level."""
    for creator in (answering, *[identity] * depth):
        stack.enter_context(scope(creator))


def against_closures(depth: int) -> Question:
    """Return the question how ours compares with the chain that one writes by hand."""

    def pair() -> Iterator[Pair]:
        with tc.creator_scope(remembering):
            tc.variable(0.0)
        chain = by_closure(answering, identity)
        for _ in range(depth):
            chain = by_closure(identity, chain)
        with ExitStack() as scopes:
            entered(scopes, tc.creator_scope, depth)
            yield lambda: tc.variable(0.0), lambda: chain(**keywords)

    return of(depth, "closures by hand, 14 keywords", pair)


def against_tensorflow(depth: int) -> Question:
    """Return the question how it compares with the original."""

    def pair() -> Iterator[Pair]:
        tf = peer("tensorflow")
        with ExitStack() as scopes:
            entered(scopes, tc.creator_scope, depth)
            entered(scopes, tf.variable_creator_scope, depth)
            yield lambda: tc.variable(0.0), lambda: tf.Variable(0.0)

    return of(depth, "`tf.variable_creator_scope`", pair)


def of(depth: int, against: str, pair: Callable[[], Iterator[Pair]]) -> Question:
    """Return the question at one depth."""
    brief = depth in (0, 10, 100)
    made = question("`tc.variable`", against=against, seconds=1.5, size=depth, brief=brief)
    return made(pair)


QUESTIONS = [ask(depth) for depth in DEPTHS for ask in (against_closures, against_tensorflow)]

if __name__ == "__main__":
    main(QUESTIONS)
