"""A scope belongs to the thread or task that opened it, and to the tasks started inside."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import torchcreator as tc
from tests.chain.marks import in_thread, marking, ones, passing, path
from torchcreator import _errors


def test_another_thread_sees_nothing():
    """A thread starts without the scopes of the thread that starts it."""
    with marking("a"):
        assert in_thread(path) == ""
        layer = in_thread(nn.Linear, 2, 2)
        assert path() == "a"
    assert tc.spec_of(layer.weight) is None


def test_threads_with_scopes_of_their_own_do_not_meet():
    """Four threads that open and close scopes at the same time each see exactly their own."""
    barrier, seen = threading.Barrier(4, timeout=60), {}

    def work(word):
        found = set()
        for _ in range(100):
            barrier.wait()
            with marking(word):
                found.add(path())
                with marking("+"):
                    found.add(path())
        found.add(path())
        seen[word] = found

    threads = [threading.Thread(target=work, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {word: {word, f"{word}+", ""} for word in "abcd"}


def test_threads_build_stock_modules_with_values_of_their_own():
    """Values set by creators in several threads at once each stick in their own thread only."""
    barrier = threading.Barrier(3, timeout=60)

    def work(number):
        def constant(next_creator, **kwargs):
            return next_creator(**{**kwargs, "initial_value": torch.full(kwargs["shape"], number)})

        built = []
        for _ in range(20):
            barrier.wait()
            with tc.creator_scope(constant) if number else contextlib.nullcontext():
                built.append(nn.Linear(3, 3).weight)
        assert _get_current_dispatch_mode_stack() == []
        return {number if bool((w == number).all()) else "drawn" for w in built}

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, [1.0, 2.0, 0.0])) == [{1.0}, {2.0}, {"drawn"}]


def test_a_scope_opened_in_a_taken_context_stays_there():
    """What a thread opens in the context it was given is not seen where the context came from."""

    def work():
        with marking("b"):
            return path()

    with marking("a"):
        assert in_thread(contextvars.copy_context().run, work) == "ab"
        assert path() == "a"


def test_a_value_set_in_a_thread_by_an_inherited_scope_is_an_error():
    """Such a value could not be kept from the module's own initialisation: said, not ignored."""
    with tc.creator_scope(ones):
        with pytest.raises(
            _errors.ScopeError, match=r"set the value of Linear\.weight in a thread"
        ):
            in_thread(contextvars.copy_context().run, nn.Linear, 2, 2)
        assert nn.Linear(2, 2).weight.sum().item() == 4


def test_the_error_about_an_inherited_scope_gives_advice_that_works():
    """With a scope opened inside the thread, the value sticks, whatever was inherited."""

    def work():
        with tc.creator_scope(ones):
            built = nn.Linear(2, 2)
        return built.weight.sum().item(), _get_current_dispatch_mode_stack()

    with tc.creator_scope(passing):
        assert in_thread(contextvars.copy_context().run, work) == (4, [])
        assert nn.Linear(2, 2).weight.sum().item() != 4


def test_names_are_unique_across_the_threads_that_inherit_a_scope():
    """Threads that share an outermost scope share its names, whatever they open themselves."""

    def work(_):
        with tc.creator_scope(passing):
            return [tc.spec_of(tc.variable(1.0, name="w")).name for _ in range(50)]

    with tc.creator_scope(passing), ThreadPoolExecutor(4) as pool:
        contexts = [contextvars.copy_context() for _ in range(4)]
        given = pool.map(lambda context: context.run(work, None), contexts)
    names = [name for names in given for name in names]
    assert len(set(names)) == len(names) == 200


# asyncio ------------------------------------------------------------------------------------------


def test_a_task_inherits_the_scopes_it_was_started_in():
    """A task sees the scopes that were open when it was created, not those opened later."""

    async def main():
        with marking("a"):
            task = asyncio.create_task(reads())
            with marking("b"):
                return await task, path()

    async def reads():
        await asyncio.sleep(0)
        return path()

    assert asyncio.run(main()) == ("a", "ab")


def test_overlapping_tasks_keep_their_own_values():
    """Two tasks that build modules in turns in one thread each get their own creators' values."""

    async def build(number):
        def constant(next_creator, **kwargs):
            return next_creator(**{**kwargs, "initial_value": torch.full(kwargs["shape"], number)})

        with tc.creator_scope(constant):
            layers = []
            for _ in range(3):
                layers.append(nn.Linear(2, 2))
                await asyncio.sleep(0)
        layers.append(nn.Linear(2, 2))
        return [bool((layer.weight == number).all()) for layer in layers]

    async def main():
        return await asyncio.gather(build(1.0), build(2.0))

    assert asyncio.run(main()) == [[True, True, True, False]] * 2


def test_a_function_sent_to_a_thread_brings_its_tasks_scopes():
    """``asyncio.to_thread`` takes the context along, and a scope opened inside works there."""

    def build():
        with tc.creator_scope(ones):
            return path(), nn.Linear(2, 2).weight.sum().item()

    def ones(next_creator, **kwargs):
        value = None if kwargs["shape"] is None else torch.ones(kwargs["shape"])
        return next_creator(**{**kwargs, "initial_value": kwargs["initial_value"] or value})

    def marks(next_creator, **kwargs):
        stock = kwargs["name"] is not None
        return next_creator(**kwargs if stock else {**kwargs, "name": "a"})

    async def main():
        with tc.creator_scope(marks):
            return await asyncio.to_thread(path), await asyncio.to_thread(build)

    assert asyncio.run(main()) == ("a", ("a", 4))


@pytest.mark.parametrize("before", [False, True], ids=["first value", "with others before"])
def test_a_task_that_outlives_its_scope(before):
    """Such a task still has the creators; a value that could not stick is an error, not a leak."""

    async def late(gate):
        await gate.wait()
        with tc.creator_scope(passing):  # one of its own is as good as new
            pass
        return tc.spec_of(tc.variable(nn.init.zeros_, shape=(2,))).shape, nn.Linear(2, 2)

    async def main():
        gate = asyncio.Event()
        with tc.creator_scope(ones):
            if before:
                assert nn.Linear(2, 2).weight.sum().item() == 4
            task = asyncio.create_task(late(gate))
            await asyncio.sleep(0)
        gate.set()
        await task

    with pytest.raises(_errors.ScopeError, match="task that inherited its scope"):
        asyncio.run(main())


def test_a_cancelled_task_closes_its_scopes():
    """Cancelling a task inside a scope closes it, and the values' mode with it."""

    async def waits():
        with tc.creator_scope(ones):
            assert nn.Linear(2, 2).weight.sum().item() == 4
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        assert len(_get_current_dispatch_mode_stack()) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return _get_current_dispatch_mode_stack()

    assert asyncio.run(main()) == []
