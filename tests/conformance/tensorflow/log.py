"""Creators that write down when they are called, for the rows."""

from __future__ import annotations

import torchcreator as tc

SYNC, AGG = tc.VariableSynchronization, tc.VariableAggregation


def logging(log, word):
    def creator(next_creator, **kwargs):
        log.append(f"{word}>")
        made = next_creator(**kwargs)
        log.append(f"<{word}")
        return made

    return creator


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def called(make=lambda: tc.variable(1.0)):
    """Return the words of the creators that `make` calls, in order."""
    LOG.clear()
    make()
    return [word[:-1] for word in LOG if word.endswith(">")]


LOG: list[str] = []


def scope(word):
    return tc.creator_scope(logging(LOG, word))


def seen_by_a_creator(*args, **kwargs):
    seen = {}

    def creator(next_creator, **keywords):
        seen.update(keywords)
        return next_creator(**keywords)

    with tc.creator_scope(creator):
        tc.variable(*args, **kwargs)
    return seen


def spec(*args, **kwargs):
    return tc.spec_of(tc.variable(*args, **kwargs))
