"""Scopes belong to the thread or task that opened them, and to the tasks started inside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

import torchcreator as tc


def marking(word):
    """Return a scope whose variables are named after it, and after the scopes inside it."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "name": word + (kwargs["name"] or "")})

    return tc.creator_scope(creator)


def path():
    """Return the words of the open scopes, the outermost first."""
    p = tc.variable(1.0, module=nn.Module())  # a name that is not counted
    name = tc.spec_of(p).name
    return "" if name == "Variable" else name


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def in_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()
