"""Threads, and what remains of a scope."""

from __future__ import annotations

import gc
import threading

import torch
from torch import nn

import torchcreator as tc
from tests.modules.creators import constant
from torchcreator._torch.dispatch import dispatch_stack_depth


def test_other_threads_see_nothing(ledger):
    """A module made in another thread, while a scope is open here, does not pass it."""
    made = []

    def work():
        made.append(nn.Linear(2, 2))

    with tc.creator_scope(ledger), tc.creator_scope(constant(5.0)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert ledger.calls == []
    assert tc.spec_of(made[0].weight) is None
    assert not (made[0].weight == 5.0).any()


def test_threads_with_scopes_of_their_own_do_not_meet():
    """Each thread's modules pass its own scope only, all at the same time."""
    barrier = threading.Barrier(4)
    wrong = []

    def work(value):
        barrier.wait()
        for _ in range(20):
            with tc.creator_scope(constant(value)):
                layer = nn.Linear(2, 2)
            if not all((p == value).all() for p in layer.parameters()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_remains_after_the_scope():
    """No mode, hook or pin outlives the scope: constructors write to its parameters again."""
    from torch.nn.modules.module import _global_parameter_registration_hooks as hooks

    count = len(hooks)
    with tc.creator_scope(constant(5.0)):
        layer = nn.Linear(2, 2)
        assert dispatch_stack_depth() == 1
    assert dispatch_stack_depth() == 0
    assert len(hooks) == count

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(layer.weight)

    Filling()
    assert (layer.weight == 0.0).all()


def test_a_scope_keeps_nothing_alive():
    """Parameters, modules and creators are freed once the user lets go of them."""
    from torchcreator._spec import table

    gc.collect()
    tables = len(table._live)

    def creator(next_creator, **kwargs):
        kwargs["initial_value"] = torch.zeros(kwargs["shape"])
        return next_creator(**kwargs)

    import weakref

    watched = weakref.ref(creator)
    with tc.creator_scope(creator):
        layers = [nn.LSTM(2, 2), nn.Linear(2, 2)]
        storage = weakref.ref(layers[1].weight.untyped_storage())
    del creator, layers
    gc.collect()
    assert watched() is None
    assert storage() is None
    assert len(table._live) == tables
