"""Scopes closed in another context, or left to a generator."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import torchcreator as tc
from tests.chain.marks import in_thread, marking, ones, passing, path
from torchcreator import _errors


def test_closing_in_a_context_that_never_opened_it_is_an_error():
    """A scope cannot be closed from a thread that does not see it; its own thread still can."""
    a = marking("a")
    a.__enter__()
    with pytest.raises(_errors.ScopeError, match="stays open there"):
        in_thread(a.__exit__, None, None, None)
    assert path() == "a"
    a.__exit__(None, None, None)


def test_closing_in_a_copied_context_closes_there_only():
    """Contexts are immutable snapshots: a copy may close the scope, the original keeps it."""
    a = marking("a")
    a.__enter__()
    copied = contextvars.copy_context()
    copied.run(a.__exit__, None, None, None)
    assert (copied.run(path), path()) == ("", "a")
    a.__exit__(None, None, None)


def generator():
    with marking("g"):
        yield path()
        yield path()


def test_dropping_a_generator_closes_its_scope():
    """The last reference gone, the scope is gone."""
    suspended = generator()
    next(suspended)
    del suspended
    gc.collect()
    assert path() == ""


def test_a_generator_run_in_a_context_of_its_own_keeps_its_scope_to_itself():
    """Stepped through in a copied context, a generator's scope is not seen outside."""
    context, suspended = contextvars.copy_context(), generator()
    assert context.run(next, suspended) == "g"
    assert path() == ""
    context.run(suspended.close)


def test_a_generator_closed_out_of_turn_says_so_and_is_gone():
    """Closed while the caller has a scope open inside its own, the caller's scope remains."""
    suspended = generator()
    next(suspended)
    with marking("a"):
        assert path() == "ga"
        with pytest.raises(_errors.ScopeError, match="proper nesting"):
            suspended.close()
        assert path() == "a"


def test_an_async_generator_keeps_its_scope_in_its_task():
    """A scope in an async generator is seen by the task that steps through it, and by no other."""

    async def stream():
        with marking("s"):
            yield path()
            yield path()

    async def consumes():
        return [(inside, path()) async for inside in stream()], path()

    async def looks():
        return path()

    async def main():
        return await asyncio.gather(consumes(), looks())

    assert asyncio.run(main()) == [([("s", "s"), ("s", "s")], ""), ""]


def test_a_context_that_changes_threads_leaves_no_mode_in_any():
    """Opened in two threads and closed out of order, scopes leave both threads as they were."""
    context = contextvars.Context()
    a, b, c = tc.creator_scope(passing), tc.creator_scope(ones), tc.creator_scope(passing)
    with ThreadPoolExecutor(1) as pool:
        context.run(a.__enter__)
        pool.submit(context.run, b.__enter__).result()
        assert pool.submit(context.run, nn.Linear, 2, 2).result().weight.sum().item() == 4
        context.run(c.__enter__)
        with pytest.raises(_errors.ScopeError, match="proper nesting"):
            pool.submit(context.run, b.__exit__).result()
        assert pool.submit(_get_current_dispatch_mode_stack).result() == []
        context.run(c.__exit__)
        context.run(a.__exit__)


def test_a_scope_closed_from_another_thread_is_swept_up_later():
    """A thread can only change its own modes: the one left there goes when a scope next opens."""
    context, a = contextvars.Context(), tc.creator_scope(ones)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(context.run, a.__enter__).result()
        assert pool.submit(context.run, nn.Linear, 2, 2).result().weight.sum().item() == 4
        context.run(a.__exit__)
        pool.submit(called_in_a_scope).result()
        assert pool.submit(_get_current_dispatch_mode_stack).result() == []


def called_in_a_scope():
    with marking("x"):
        return path()
