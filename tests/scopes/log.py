"""The creator chain: who is called, in which order, with what, and what remains afterwards."""

from __future__ import annotations

import torch

import torchcreator as tc

KEYWORDS = {
    "initial_value",
    "trainable",
    "validate_shape",
    "caching_device",
    "name",
    "dtype",
    "constraint",
    "synchronization",
    "aggregation",
    "shape",
    "device",
    "process_group",
    "tags",
    "module",
}


def logging(log, word):
    def creator(next_creator, **kwargs):
        log.append(f"{word}>")
        made = next_creator(**kwargs)
        log.append(f"<{word}")
        return made

    return creator


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def called(make=lambda: tc.variable(1.0)):
    """Return the words of the open scopes that the making of a variable calls."""
    before = len(LOG)
    make()
    return [word[:-1] for word in LOG[before:] if word.endswith(">")]


LOG: list[str] = []


def scope(word, **options):
    return tc.creator_scope(logging(LOG, word), **options)
