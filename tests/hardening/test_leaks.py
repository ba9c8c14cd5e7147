"""Nothing grows: not memory, not torch's hooks and modes, not the library's own tables."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import torchcreator as tc
from torchcreator import _errors
from torchcreator._chain import open_scopes
from torchcreator._chain.open_scopes import current
from torchcreator._recorder.tape import Op
from torchcreator._spec import spec, table


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})


def resident():
    """Return how many bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def tables():
    """Return the sizes of everything that could grow."""
    gc.collect()
    return {
        "declarations": len(table._live),
        "process names": len(open_scopes.process_names._numbers),
        "registration hooks": len(torch_module._global_parameter_registration_hooks),
        "optimizer hooks": len(_global_optimizer_post_hooks),
        "modes": len(_get_current_dispatch_mode_stack()),
        "open scopes": 0 if current.get() is None else 1,
        "listeners": len(spec._constraints.listeners) + len(spec._policies.listeners),
        "copy listeners": len(table.copy_listeners),
    }


def one_scope_each():
    """Open and close a scope with a variable."""
    with tc.creator_scope(passing):
        tc.variable(1.0)


def scopes_that_fail():
    """Leave a scope by an exception of a creator."""

    def fails(next_creator, **kwargs):
        message = "not this one"
        raise ValueError(message)

    with contextlib.suppress(ValueError), tc.creator_scope(fails):
        tc.variable(1.0)


def scopes_out_of_order():
    """Close two scopes in the wrong order."""
    a, b = tc.creator_scope(passing), tc.creator_scope(passing)
    a.__enter__()
    b.__enter__()
    with contextlib.suppress(_errors.ScopeError):
        a.__exit__(None, None, None)
    b.__exit__(None, None, None)


def constrained_variables():
    """Make a constrained variable on its own."""
    tc.variable([1.0], constraint="non_neg", name="leaks_constrained")


def modules_with_values():
    """Build a stock module whose values a creator sets."""
    with tc.creator_scope(ones):
        nn.Linear(2, 2)


def refused_variables():
    """Ask for what cannot be made."""
    with contextlib.suppress(_errors.TorchCreatorError):
        tc.variable(torch.zeros(2), shape=(3,), name="leaks_refused")


def decorated():
    """Call a decorated function."""
    tc.creator_scope(passing)(lambda: tc.variable(1.0))()


@pytest.mark.parametrize(
    ("action", "times"),
    [
        (one_scope_each, 10_000),
        (scopes_that_fail, 2000),
        (scopes_out_of_order, 2000),
        (constrained_variables, 5000),
        (modules_with_values, 300),
        (refused_variables, 2000),
        (decorated, 2000),
    ],
    ids=lambda value: getattr(value, "__name__", None) or f"{value} times",
)
def test_nothing_grows(action, times):
    """Done many times over, an action leaves as many objects and table entries as done once."""
    for _ in range(20):
        action()
    before, objects = tables(), len(gc.get_objects())
    for _ in range(times):
        action()
    assert tables() == before
    assert len(gc.get_objects()) - objects < 50  # Python's own caches move by a few


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_100_000_variables_leave_no_memory():
    """A hundred thousand variables, made and dropped, leave the process as large as before."""

    def make(number):
        for _ in range(number):
            tc.variable(1.0, name="leaks_many")

    make(20_000)  # allocators reach their plateau
    before, sizes = tables(), resident()
    make(100_000)
    assert tables() == before
    assert resident() - sizes < 4 * 2**20  # 40 bytes a variable would show


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_10_000_scopes_leave_no_memory():
    """Ten thousand scopes with a stock module's parameter in each leave no memory either."""

    def open_and_close(number):
        for _ in range(number):
            with tc.creator_scope(passing):
                layer = nn.Module()
                layer.weight = nn.Parameter(torch.zeros(1))

    open_and_close(2000)
    before, sizes = tables(), resident()
    open_and_close(10_000)
    assert tables() == before
    assert resident() - sizes < 4 * 2**20


def test_variables_of_one_open_scope_cost_one_name():
    """In a scope that stays open, variables of one name leave one counter, and no reference."""
    with tc.creator_scope(passing):
        for _ in range(10_000):
            tc.variable(1.0, name="w")
        names = current.get().root.names
        assert len(names._numbers) == 1
        assert names.unique("w") == "w_10000"
        layer = nn.Linear(2, 2)
        kept = weakref.ref(layer)
        del layer
        gc.collect()
        assert kept() is None


def test_a_scope_lets_go_of_its_creator():
    """After the block nothing refers to the creator or to what it holds."""

    class Creator:
        def __call__(self, next_creator, **kwargs):
            return next_creator(**kwargs)

    creator = Creator()
    gone = weakref.ref(creator)
    with tc.creator_scope(creator):
        tc.variable(1.0)
        nn.Linear(1, 1)
    del creator
    assert gone() is None


def test_a_variable_is_freed_by_its_last_reference():
    """No cycle holds a variable: it goes at once, without the collector."""

    class Tag:
        pass

    tag = Tag()
    gone = weakref.ref(tag)
    gc.disable()
    try:
        p = tc.variable([1.0], constraint="non_neg", tags={"tag": tag}, name="leaks_freed")
        del tag
        assert gone() is not None
        del p
        assert gone() is None
    finally:
        gc.enable()


class Recorded(nn.Module):
    """A module whose constructor draws, looks at what it drew, brings data, and may fail."""

    def __init__(self, *, fails=False):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.rand(3, generator=torch.Generator().manual_seed(1)))
        self.table = nn.Buffer(torch.zeros(4) + torch.tensor([1.0, 2.0, 3.0, 4.0]))
        self.up = bool(self.layer.bias[0] > 0)
        if fails:
            raise ValueError


def built(seed):
    tc.build(Recorded, seed=seed)


def built_in_a_scope(seed):
    with tc.creator_scope(ones):
        tc.build(Recorded, seed=seed)


def deferred(seed):
    tc.materialize(tc.defer(Recorded, seed=seed))


def failed(seed):
    with contextlib.suppress(ValueError):
        tc.build(Recorded, fails=True, seed=seed)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("make", [built, built_in_a_scope, deferred, failed])
def test_a_recording_is_freed_with_its_last_reference(make, seed):
    """What was recorded, data included, goes at once: no cycle waits for the collector."""

    def operations():
        return sum(type(each) is Op for each in gc.get_objects())

    make(seed)  # probes and caches
    gc.collect()
    gc.disable()
    try:
        before = operations()
        make(seed)
        assert operations() == before
    finally:
        gc.enable()


def test_tasks_leave_nothing():
    """A thousand tasks, ten at a time, each with a scope across an await, leave nothing."""

    async def task():
        with tc.creator_scope(ones):
            nn.Linear(1, 1)
            await asyncio.sleep(0)

    async def main(number):
        for _ in range(number):
            await asyncio.gather(*(task() for _ in range(10)))

    asyncio.run(main(2))
    before, objects = tables(), len(gc.get_objects())
    asyncio.run(main(100))
    assert tables() == before
    assert len(gc.get_objects()) - objects < 50
