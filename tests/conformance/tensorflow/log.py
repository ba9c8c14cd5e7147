"""Creators that write down when they are called, for the rows."""

from __future__ import annotations

import torchcreator as tc

SYNC, AGG = tc.VariableSynchronization, tc.VariableAggregation


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
