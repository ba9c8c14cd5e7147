"""Creators that write down when they are called."""

from __future__ import annotations

import torchcreator as tc

LOG: list[str] = []


def logging(log, word):
    def creator(next_creator, **kwargs):
        log.append(f"{word}>")
        made = next_creator(**kwargs)
        log.append(f"<{word}")
        return made

    return creator


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def scope(word, **options):
    return tc.creator_scope(logging(LOG, word), **options)


def called(make=lambda: tc.variable(1.0)):
    """Return the words of the creators that the making of a variable calls, in order."""
    before = len(LOG)
    make()
    return [word[:-1] for word in LOG[before:] if word.endswith(">")]
