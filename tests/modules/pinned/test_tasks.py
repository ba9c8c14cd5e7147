"""Pins in tasks and threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
import torch
from torch import nn

import torchcreator as tc
from tests.modules.pinned.writes import constant


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
