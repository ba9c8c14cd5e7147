"""Questions that are answered at once, in every way in which one can be."""

from __future__ import annotations

import os

from benchmarks._measure import Question, Take, question
from benchmarks._peers import peer
from benchmarks._run import main


@question("quick work", against="the same", seconds=0.001)
def answered():
    yield (lambda: None), (lambda: None)


@question("work with a peer", against="a library that nobody has")
def skipped():
    yield (lambda: None), peer("nobody_has_this").do


@question("broken work", against="nothing")
def broken():
    msg = "it broke\nin two lines"
    raise RuntimeError(msg)
    yield


def crash(seconds: float) -> Take:
    os._exit(7)


QUESTIONS = [
    *(answered, skipped, broken),
    Question("work that ends the process", "anything", crash),
    Question("work after it", "anything", crash, brief=False),
]

if __name__ == "__main__":
    main(QUESTIONS)
