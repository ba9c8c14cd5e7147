"""TensorFlow's scopes in threads and tasks."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

from tests.support.log import called, scope


def in_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def test_threads_1_another_thread():
    """Another thread does not see the scope."""
    with scope("a"):
        assert in_thread(called) == []


def test_threads_2_independent():
    """Two threads, each with a scope, are independent."""

    def inside():
        with scope("b"):
            return called()

    with scope("a"):
        assert in_thread(inside) == ["b"]
        assert called() == ["a"]


def test_threads_3_a_copied_context():
    """Differs: a context copied into a thread brings its scopes; that is what copying is for."""
    with scope("a"):
        assert in_thread(contextvars.copy_context().run, called) == ["a"]


def test_threads_4_asyncio():
    """Differs: a scope does not leak to other tasks across await, and overlapping ones close well.

    In TensorFlow the first of two overlapping tasks to exit gets the RuntimeError, and one creator
    stays on the stack for ever.
    """

    async def main():
        b_is_open, a_is_closed = asyncio.Event(), asyncio.Event()

        async def first():
            with scope("a"):
                await b_is_open.wait()
                inside = called()
            a_is_closed.set()
            return inside, called()

        async def second():
            with scope("b"):
                b_is_open.set()
                await a_is_closed.wait()
                inside = called()
            return inside, called()

        return await asyncio.gather(first(), second()), called()

    assert asyncio.run(main()) == ([(["a"], []), (["b"], [])], [])
