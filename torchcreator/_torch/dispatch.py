"""Operations on their way through torch: modes, schemas, what is hidden from the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from operator import attrgetter
from types import CodeType
from typing import Any, TypeVar

import torch
from torch._ops import OpOverload as OpOverload
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import (
    TorchDispatchMode as TorchDispatchMode,
)
from torch.utils._python_dispatch import (
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)
from typing_extensions import Self

_F = TypeVar("_F", bound=Callable[..., Any])


class DispatchMode(TorchDispatchMode):
    """A dispatch mode that torch calls as it is, and that only its own thread notices.

    Torch's own `__enter__` also tells the whole process that some mode is active, and `__exit__`
    puts back what it was told before: two threads whose blocks overlap leave it told for ever, and
    torch 2.10 then compiles nothing any more. And torch.compile does not look into its methods.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]
        if "__torch_dispatch__" in vars(cls):
            cls.__torch_dispatch__ = not_compiled(cls.__torch_dispatch__)  # type: ignore[method-assign]

    def __enter__(self) -> Self:
        _push_mode(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        _pop_mode()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps each call, and imports torch._dynamo, a second, at the first of them.
        return False


schema_of: Callable[[OpOverload], Any] = attrgetter("_schema")
"""Return an operation's schema: its name, what it takes, returns and writes to."""

TO_COPY: OpOverload = torch.ops.aten._to_copy.default
"""Return a tensor's value in another dtype, in memory of its own."""

overload_name: Callable[[OpOverload], str] = attrgetter("_overloadname")
"""Return which of the operations of its name this is."""

dispatch_stack_depth = torch._C._len_torch_dispatch_stack
"""Return how many dispatch modes are active in this thread."""


def push_dispatch_mode(mode: TorchDispatchMode) -> None:
    """Put a mode on top of this thread's dispatch stack."""
    _push_mode(mode)


def pop_dispatch_mode() -> TorchDispatchMode:
    """Take the top mode off this thread's dispatch stack."""
    mode: TorchDispatchMode = _pop_mode()
    return mode


def dispatch_modes() -> list[TorchDispatchMode]:
    """Return the dispatch modes active in this thread, the outermost first."""
    return list(_get_current_dispatch_mode_stack())


def no_dispatch_modes() -> AbstractContextManager[object]:
    """Return a context in which no ``__torch_dispatch__`` is called."""
    context: AbstractContextManager[object] = no_dispatch()
    return context


past_dispatch = torch._C._DisableTorchDispatch
"""Return an object that keeps dispatch modes from being called until it is deleted.

`no_dispatch_modes` does the same at ten times the price; make sure that `del` is reached.
"""


def no_function_modes() -> AbstractContextManager[object]:
    """Return a context in which no ``__torch_function__``, of a mode or a subclass, is called."""
    context: AbstractContextManager[object] = torch._C.DisableTorchFunction()
    return context


function_modes_active = torch._C._is_torch_function_mode_enabled


_NOWHERE: frozenset[str] = frozenset()


def autocast_on() -> frozenset[str]:
    """Return the kinds of device for which autocast is on; inside a dispatch mode it says none."""
    if not torch._C._is_any_autocast_enabled():  # nearly always
        return _NOWHERE
    accelerator = torch.accelerator.current_accelerator()
    kinds = {"cpu", "cpu" if accelerator is None else accelerator.type}
    return frozenset(kind for kind in kinds if torch.is_autocast_enabled(kind))


def no_autocast() -> AbstractContextManager[object]:
    """Return a context in which operations compute in the dtypes of what they are given."""
    kinds = autocast_on()
    return _autocast_off(kinds) if kinds else nullcontext()


@contextmanager
def _autocast_off(kinds: frozenset[str]) -> Iterator[None]:
    with ExitStack() as off:
        for kind in kinds:
            off.enter_context(torch.autocast(kind, enabled=False))
        yield


def autocasts(name: str, kind: str) -> bool:
    """Return whether autocast for a kind of device knows one of torch's operations, "mm" say."""
    packet: Any = getattr(torch.ops.aten, name, None)
    for overload in () if packet is None else packet.overloads():
        full, key = getattr(packet, overload).name(), f"Autocast{kind.upper()}"
        with suppress(RuntimeError):  # one for TorchScript's numbers alone
            if torch._C._dispatch_has_kernel_for_dispatch_key(full, key):
                return True
    return False


def not_compiled(function: _F) -> _F:
    """Keep torch.compile from looking into a function and what it calls.

    `torch.compiler.disable` does the same, but imports dynamo, a second, at the first call.
    """
    evaluation: Any = torch._C._dynamo.eval_frame
    code: CodeType = function.__code__
    if hasattr(evaluation, "_FrameAction"):
        skip = evaluation._FrameAction.SKIP
        evaluation.set_code_exec_strategy(code, evaluation._FrameExecStrategy(skip, skip))
    else:
        hidden: _F = torch.compiler.disable(function)
        return hidden
    return function
