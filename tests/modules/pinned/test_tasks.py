"""Pins in tasks and threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.pinned.writes import constant
from torchcreator._chain.open_scopes import current
from torchcreator._torch.dispatch import dispatch_stack_depth


def test_a_task_started_inside_inherits_the_scope():
    """A task that is started in a scope makes its modules in it."""

    async def child():
        await asyncio.sleep(0)
        return nn.Linear(2, 2)

    async def main():
        with tc.creator_scope(constant(5.0)):
            return await asyncio.gather(child(), child())

    for layer in asyncio.run(main()):
        assert all((p == 5.0).all() for p in layer.parameters())


def test_a_thread_that_inherits_a_scope_may_change_policies():
    """What needs no protection works in a thread that inherited its scope."""
    made = []
    with tc.creator_scope(lambda n, **kwargs: n(**{**kwargs, "trainable": False})):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: made.append(nn.Linear(2, 2)),))
        thread.start()
        thread.join()
    assert {p.requires_grad for p in made[0].parameters()} == {False}


@pytest.mark.parametrize("switch", ["overwrite", "swap"])
def test_pins_are_in_nobodys_way(switch):
    """A model whose values are protected can be converted in the scope, however torch does it."""
    set_switch = getattr(torch.__future__, f"set_{switch}_module_params_on_conversion")
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        set_switch(True)
        try:
            layer.double()
        finally:
            set_switch(False)
        layer(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert layer.weight.dtype == torch.float64
    assert (layer.weight == 5.0).all()
    assert tc.spec_of(layer.weight) is not None


def test_a_thousand_tasks_keep_their_values():
    """A thousand tasks of one thread may hold scopes that set values at the same time."""

    async def task(value, everybody):
        with tc.creator_scope(constant(value)):
            first = nn.Linear(2, 2)
            await everybody.wait()
            return first, nn.Linear(2, 2)

    async def main():
        everybody = asyncio.Event()
        tasks = [asyncio.create_task(task(float(n), everybody)) for n in range(1000)]
        await asyncio.sleep(0)
        assert dispatch_stack_depth() == 1
        nn.Linear(2, 2)  # outside their scopes, among them
        everybody.set()
        return await asyncio.gather(*tasks)

    for value, layers in enumerate(asyncio.run(main())):
        assert all((p == value).all() for layer in layers for p in layer.parameters())


def test_what_two_tasks_keep_is_kept_until_both_are_over():
    """A storage that two scopes protect stays protected when one of them closes."""
    layer = nn.Linear(2, 2)

    async def task(started, until):
        with tc.creator_scope(lambda next_creator, **kwargs: layer.weight):
            started.set()
            await until.wait()
            return Twice()

    async def main():
        started, first, second = asyncio.Event(), asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(task(started, first))
        other = asyncio.create_task(task(asyncio.Event(), second))
        await started.wait()
        first.set()
        await one
        layer.weight.data.fill_(7.0)
        second.set()
        return await other

    assert (asyncio.run(main()).weight == 7.0).all()


class Twice(nn.Module):
    """Writes to its parameter after it has registered it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, 2))
        nn.init.zeros_(self.weight)


def test_a_scope_that_stays_open_forgets_what_is_gone():
    """In a scope that is open for long, layers that were made and dropped leave nothing."""

    def size():
        gc.collect()
        return len(gc.get_objects()), len(current.get().root.pins._storages)

    with tc.creator_scope(constant(1.0)):
        for _ in range(200):
            nn.Linear(2, 2)
        objects, _ = size()
        kept = [nn.Linear(2, 2) for _ in range(10)]
        for _ in range(2000):
            nn.Linear(2, 2)
        grown, storages = size()
        assert storages <= 2 * 20 + 64
        assert grown - objects < 10 * 60
        assert all((p == 1.0).all() for layer in kept for p in layer.parameters())
        assert len(current.get().root.pins.mode.pins) == storages
