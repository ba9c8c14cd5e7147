"""What a variable and a scope cannot cost less than: ``python -m benchmarks.floor``.

The least code that keeps the promises, written out by hand for the one case that is measured:
every keyword with its default, unknown ones refused, a name of its own in every thread, a
declaration that a copy keeps, creators called again and again. Whatever else may be asked for is
one test and an error here. The rows stand beside those of `benchmarks.core` and
`benchmarks.stock_modules`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.utils.parametrize import ParametrizationList

import torchcreator as tc
from benchmarks._measure import DEVICE, Pair, question
from benchmarks._run import main
from benchmarks.stock_modules import identity, plain
from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator._torch import hooks
from torchcreator._torch.dispatch import dispatch_stack_depth

LEAST = "the least code by hand:"
AUTO, NONE = VariableSynchronization.AUTO, VariableAggregation.NONE
HOLDERS = (ParametrizationList, GraphModule)
REFORMING = ("torch.nn.utils.", "torch.distributed.", "torch.export.", "torch.fx.", "torch.ao.")
SETATTR = nn.Module.__setattr__.__code__

numbers: dict[str, Iterator[int]] = {"Variable": iter(range(1, sys.maxsize))}
tables: set[weakref.ref[Table]] = set()
current: ContextVar[Link | None] = ContextVar("current", default=None)
target: ContextVar[Waiting | None] = ContextVar("target", default=None)


class Declaration(tuple[Any, ...]):
    """The fields of a spec."""

    __slots__ = ()


class Table:
    """The declarations of one module's parameters, found again through the live tables."""

    __slots__ = ("__weakref__", "declared", "modules", "parameters")

    def __init__(self, module: nn.Module) -> None:
        self.parameters, self.modules = module._parameters, module._modules
        self.declared: dict[str, Declaration] = {}
        tables.add(weakref.ref(self, tables.discard))


class Waiting:
    """A stock module's parameter that waits for the default creator."""

    __slots__ = ("declaration", "device", "dtype", "made", "module", "name", "parameter", "shape")

    declaration: Declaration
    device: torch.device
    dtype: torch.dtype
    made: Any  # a parameter, once the default creator was there
    module: nn.Module
    name: str
    parameter: nn.Parameter
    shape: torch.Size


class Root:
    """What the scopes inside the outermost one share."""

    __slots__ = ("depth", "names", "pins", "thread")

    def __init__(self) -> None:
        self.names = self.pins = None
        self.depth = dispatch_stack_depth()
        self.thread: int | None = get_ident()


class Link:
    """One open scope."""

    __slots__ = ("creator", "onward", "outward", "root", "scope")

    def __init__(self, scope: Scope, outward: Link | None, root: Root) -> None:
        self.scope, self.creator, self.onward = scope, scope.creator, made
        self.outward, self.root = outward, root


class Scope:
    """An outermost scope, closed in turn, and told where it was never entered."""

    __slots__ = ("creator", "modules", "opened")
    opened: bool | None  # None: never so far

    def __init__(self, creator: Callable[..., Any], *, modules: bool = True) -> None:
        self.creator, self.modules, self.opened = creator, modules, None
        if not callable(creator) or modules is not True:
            raise NotImplementedError

    def __enter__(self) -> None:
        outward = current.get()
        if self.opened or outward is not None:
            raise NotImplementedError
        current.set(Link(self, outward, Root()))
        self.opened = True

    def __exit__(self, *exc_info: object) -> None:
        innermost = current.get()
        self.opened = False
        if innermost is None or innermost.scope is not self or innermost.root.pins is not None:
            raise NotImplementedError
        current.set(innermost.outward)
        innermost.root.thread = None

    def __del__(self) -> None:
        if self.opened is None:
            raise NotImplementedError


def variable(
    initial_value: Any = None,
    *,
    trainable: Any = None,
    validate_shape: Any = True,
    caching_device: Any = None,
    name: Any = None,
    dtype: Any = None,
    constraint: Any = None,
    synchronization: Any = AUTO,
    aggregation: Any = NONE,
    shape: Any = None,
    device: Any = None,
    process_group: Any = None,
    tags: Any = None,
    module: Any = None,
    **unknown: Any,
) -> nn.Parameter:
    """Make a parameter of a tensor, outside any scope, from the value alone."""
    if (
        unknown
        or not (synchronization is AUTO and aggregation is NONE and trainable is name is None)
        or not (shape is dtype is device is constraint is caching_device is None)
        or not (process_group is tags is module is None)
        or not (current.get() is None and target.get() is None)
        or not (type(initial_value) is torch.Tensor and validate_shape is True)
    ):
        raise NotImplementedError
    data = initial_value.detach().clone() if initial_value.requires_grad else initial_value.clone()
    kind = data.dtype
    parameter = nn.Parameter(data, kind.is_floating_point or kind.is_complex)
    counted = f"Variable_{next(numbers['Variable'])}"
    if counted in numbers:
        raise NotImplementedError
    attributes = parameter.__dict__
    attributes["_declaration"] = Declaration(
        (counted, data.shape, kind, True, None, synchronization, aggregation, None, None, {}, True)
    )
    attributes["__deepcopy__"] = None
    return parameter


def made(
    *,
    initial_value: Any = None,
    trainable: Any = None,
    validate_shape: Any = True,
    caching_device: Any = None,
    name: Any = None,
    dtype: Any = None,
    constraint: Any = None,
    synchronization: Any = AUTO,
    aggregation: Any = NONE,
    shape: Any = None,
    device: Any = None,
    process_group: Any = None,
    tags: Any = None,
    module: Any = None,
    **unknown: Any,
) -> nn.Parameter:
    """Adopt a stock module's parameter, of which nobody changed anything."""
    waiting = target.get()
    if (
        unknown
        or waiting is None
        or not (waiting.made is None and waiting.module is module and waiting.name is name)
        or not (shape is waiting.shape and dtype is waiting.dtype and device is waiting.device)
        or not (synchronization is AUTO and aggregation is NONE and validate_shape is True)
        or not (initial_value is trainable is constraint is caching_device is None)
        or not (process_group is tags is None)
    ):
        raise NotImplementedError
    wanted = dtype.is_floating_point or dtype.is_complex
    if waiting.parameter.requires_grad is not wanted:
        raise NotImplementedError
    waiting.made = parameter = waiting.parameter
    waiting.declaration = Declaration(
        (name, shape, dtype, wanted, None, synchronization, aggregation, None, None, {}, True)
    )
    return parameter


def on_register(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
    """Send a parameter that a stock module assigns through the creators."""
    link, registrar = current.get(), sys._getframe(2)
    if link is None or "_declaration" in parameter.__dict__ or isinstance(module, HOLDERS):
        raise NotImplementedError
    caller = registrar.f_back
    if caller is None or registrar.f_code is not SETATTR or sys.getrefcount(parameter) > 99:
        raise NotImplementedError
    if caller.f_globals["__name__"].startswith(REFORMING):
        raise NotImplementedError
    waiting = Waiting()
    waiting.module, waiting.name, waiting.parameter, waiting.made = module, name, parameter, None
    shape, dtype, device = parameter.shape, parameter.dtype, parameter.device
    waiting.shape, waiting.dtype, waiting.device = shape, dtype, device
    token = target.set(waiting)
    try:
        result = link.creator(
            link.onward,
            initial_value=None,
            trainable=None if parameter.requires_grad else False,
            validate_shape=True,
            caching_device=None,
            name=name,
            dtype=dtype,
            constraint=None,
            synchronization=AUTO,
            aggregation=NONE,
            shape=shape,
            device=device,
            process_group=None,
            tags=None,
            module=module,
        )
    finally:
        target.reset(token)
    if not isinstance(result, nn.Parameter) or result is not waiting.made:
        raise NotImplementedError
    table: Table | None = module.__dict__.get("_table")
    if table is None:
        table = module.__dict__["_table"] = Table(module)
    table.declared[name] = waiting.declaration
    return result


@question(f"{LEAST} `variable(z)` without a scope", against="`nn.Parameter(z.clone())`")
def one_variable() -> Iterator[Pair]:
    """Time one small variable against the parameter alone."""
    value = torch.zeros(8, device=DEVICE)
    yield lambda: variable(value), lambda: nn.Parameter(value.clone())


@question(f"{LEAST} entering and leaving a scope", against="`ContextVar` set and reset")
def entering() -> Iterator[Pair]:
    """Time a scope against the least that a context variable costs."""
    other: ContextVar[object] = ContextVar("other", default=None)

    def ours() -> None:
        with Scope(identity):
            pass

    yield ours, lambda: other.reset(other.set(None))


@question(
    f"{LEAST} 300 `nn.Linear(16, 16)` in a scope with one creator", against="no scope", seconds=6.0
)
def stock_modules() -> Iterator[Pair]:
    """Time many small stock modules in a scope, with no hook of the library's in torch."""
    with tc.creator_scope(identity):
        pass
    for hook in hooks.hooks():
        hook.handle.remove()
    own: Any = on_register

    def in_a_scope() -> None:
        handle = register_module_parameter_registration_hook(own)
        with Scope(identity):
            plain()
        handle.remove()

    try:
        yield in_a_scope, plain
    finally:
        list(hooks.reinstall_lost_hooks())


QUESTIONS = [one_variable, entering, stock_modules]

if __name__ == "__main__":
    main(QUESTIONS)
