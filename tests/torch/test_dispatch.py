"""Modes, schemas, and what the compiler does not see, by torch's private names."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from torchcreator._torch.dispatch import (
    TO_COPY,
    DispatchMode,
    OpOverload,
    TorchDispatchMode,
    autocast_on,
    autocasts,
    dispatch_modes,
    dispatch_stack_depth,
    function_modes_active,
    no_autocast,
    no_dispatch_modes,
    no_function_modes,
    not_compiled,
    overload_name,
    past_dispatch,
    pop_dispatch_mode,
    push_dispatch_mode,
    schema_of,
)


def test_a_mode_is_called_as_it_is():
    """Torch wraps what a mode does, to keep its compiler away; ours it leaves as it is.

    Torch 2.10 wraps none.
    """

    def dispatch(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))

    plain = type("Plain", (TorchDispatchMode,), {"__torch_dispatch__": dispatch})
    ours = type("Ours", (DispatchMode,), {"__torch_dispatch__": dispatch})
    wrapped = torch.__version__ >= (2, 11)
    assert (plain.__torch_dispatch__ is not dispatch) == wrapped
    assert ours.__torch_dispatch__ is dispatch


def test_the_process_does_not_notice_modes_whose_blocks_overlap():
    """Torch tells the whole process of a mode; of ours it does not, so nothing is left told."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with type("First", (DispatchMode,), {})():
            first_in.set()
            second_in.wait(20)
        first_out.set()

    def second():
        first_in.wait(20)
        with type("Second", (DispatchMode,), {})():
            second_in.set()
            first_out.wait(20)

    with ThreadPoolExecutor(2) as pool:
        for blocked in [pool.submit(first), pool.submit(second)]:
            blocked.result()
    assert first_out.is_set()
    assert not is_in_torch_dispatch_mode()


def test_an_operation_tells_its_schema():
    """An operation's schema has its name and what it writes; its overload has a name of its own."""
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.zeros(1).add_(torch.ones(1))
    operation = seen[-1]
    assert isinstance(operation, OpOverload)
    schema = schema_of(operation)
    assert schema.name == "aten::add_"
    assert schema.arguments[0].alias_info.is_write
    assert overload_name(operation) == "Tensor"


def test_a_conversion_has_memory_of_its_own():
    """It has the dtype asked for, and is a copy where that is the same."""
    tensor = torch.tensor([1.5])
    assert TO_COPY(tensor, dtype=torch.half).dtype == torch.half
    assert TO_COPY(tensor, dtype=torch.float).data_ptr() != tensor.data_ptr()


def test_a_guard_keeps_modes_from_being_called():
    """While it lives no dispatch mode sees an operation; afterwards it does again."""
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        guard = past_dispatch()
        torch.empty(1)
        assert not seen
        del guard
        torch.empty(1)
    assert len(seen) == 1


def test_modes_are_pushed_and_popped():
    """What is pushed is on the stack, outermost first, and comes off it in reverse."""

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    first, second = Mode(), Mode()
    assert dispatch_stack_depth() == 0
    push_dispatch_mode(first)
    push_dispatch_mode(second)
    assert dispatch_stack_depth() == 2
    assert dispatch_modes() == [first, second]
    with no_dispatch_modes():
        assert torch.ones(1).item() == 1.0
    assert pop_dispatch_mode() is second
    assert pop_dispatch_mode() is first
    assert dispatch_modes() == []


def test_function_modes_are_passed_by():
    """Inside the context no ``__torch_function__`` is called."""

    class Refusing(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            raise AssertionError(func)

    with Refusing(), no_function_modes():
        assert torch.add(torch.ones(1), 1).item() == 2.0


def test_active_function_modes_are_known():
    """It is known whether a ``__torch_function__`` mode is active."""

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    assert not function_modes_active()
    with Mode():
        assert function_modes_active()


def test_a_hidden_function_is_not_compiled():
    """torch.compile runs such a function, and what it calls, without looking into it."""
    seen = []

    def inner(x):
        seen.append(torch.compiler.is_compiling())
        return x + 1

    @not_compiled
    def hidden(x):
        return inner(x)

    compiled = torch.compile(hidden, backend="eager")
    assert compiled(torch.zeros(1)).item() == 1.0
    assert seen == [False]


def test_autocast_is_seen_and_put_aside():
    """Where it is on, what it knows, and a block in which it is off."""
    ones = torch.ones(2, 2)
    assert autocast_on() == frozenset()
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_on() == {"cpu"}
        with no_autocast():
            assert autocast_on() == frozenset()
            assert (ones @ ones).dtype == torch.float32
        assert (ones @ ones).dtype == torch.bfloat16
    assert autocasts("mm", "cpu")
    assert autocasts("softmax", "cuda")  # by one of its overloads
    assert not autocasts("add", "cpu")
    assert not autocasts("no such operation", "cpu")
