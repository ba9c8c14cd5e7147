"""Factories under chains of creators, and what the inventory says that each decided."""

from __future__ import annotations

import contextlib

from torch import nn

import torchcreator as tc


def decisions(row):
    return [str(decision) for decision in row.decisions]


class Gain(nn.Module):
    """A model of one variable, called as the first one of a normalisation is."""

    def __init__(self):
        super().__init__()
        self.weight = tc.variable(nn.init.ones_, shape=(2,), name="weight")


def inside(*creators, made=lambda: nn.LayerNorm(2)):
    """Return a factory that opens scopes itself, the last one innermost."""

    def factory():
        with contextlib.ExitStack() as scopes:
            for creator in creators:
                scopes.enter_context(tc.creator_scope(creator))
            return made()

    return factory


def under(*creators, made=lambda: nn.LayerNorm(2)):
    with contextlib.ExitStack() as scopes:
        for creator in creators:
            scopes.enter_context(tc.creator_scope(creator))
        return tc.inspect(made)
