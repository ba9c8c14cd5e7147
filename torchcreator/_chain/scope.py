"""The creator chain: scopes nest, and each variable passes their creators, innermost first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from torchcreator._chain import observers
from torchcreator._chain.default import default_creator
from torchcreator._chain.open_scopes import Link, Root, Step, current
from torchcreator._errors import CreatorResultError, ScopeError, VariableTypeError, called, shown
from torchcreator._spec.types import Creator, NextCreator

P = ParamSpec("P")
R = TypeVar("R")

_RUN_LATER: tuple[Callable[[object], bool], ...] = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _linked(scope: creator_scope, outward: Link | None, root: Root) -> Link:
    creator = scope.creator
    if observers.tracer is not None:  # somebody inspects: asked here, not per variable
        creator = observers.tracer.traced(scope, outward)
    if outward is None:
        step: Step = creator, default_creator
        return Link(scope, None, step, step if scope.modules else None, root)
    step = creator, _chained(outward.step)
    if not scope.modules:
        module_step = outward.module_step
    elif outward.module_step is outward.step:
        module_step = step
    else:
        module_step = creator, _chained(outward.module_step)
    return Link(scope, outward, step, module_step, root)


def relinked(link: Link | None, outward: Link | None = None) -> Link | None:
    """Return the open scopes linked anew, around them the scopes of ``outward``."""
    if link is None:
        return outward
    return _linked(link.scope, relinked(link.outward, outward), link.root)


def _root(outward: Link) -> Root:
    """Return the root of a scope that opens now inside ``outward``."""
    if outward.root.thread == get_ident():
        return outward.root
    # Inherited from another thread, or by a task that outlived the scope: all but the names is new.
    return Root(outward.root.counted())


def _chained(step: Step | None) -> NextCreator:
    """Return a creator and the rest of the chain behind it as one call."""
    if step is None:
        return default_creator
    creator, onward = step

    def next_creator(**kwargs: Any) -> Any:
        made = creator(onward, **kwargs)
        if made is None:
            raise returned_none(creator, kwargs.get("name"))
        return made

    return next_creator


def current_chain() -> NextCreator:
    """Return the creators of the open scopes and the default creator behind them, as one call."""
    link = current.get()
    return _chained(None if link is None else link.step)


class creator_scope:
    """Let ``creator`` decide how the variables made inside the block are made.

    Scopes nest: the innermost creator is called first, and its ``next_creator`` is the next scope
    outward; the outermost one reaches `default_creator`. (TensorFlow's order; Haiku and Flax run
    the other way round.) A creator may change the keywords, call ``next_creator`` never, once or
    many times, and return any parameter. Other threads and concurrent asyncio tasks see nothing
    of it; tasks started inside inherit it.

    Args:
        creator: Called as ``creator(next_creator, **kwargs)`` for each variable; returns it.
        modules: Whether the parameters of stock modules, made inside, pass it too.

    Raises:
        VariableTypeError: ``creator`` is not callable.
        ScopeError: The scope is entered twice, or closed before one that was opened inside it.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> def frozen(next_creator, **kwargs):
        ...     kwargs["trainable"] = False
        ...     return next_creator(**kwargs)
        >>> with tc.creator_scope(frozen):
        ...     layer = nn.Linear(2, 3)
        >>> [p.requires_grad for p in layer.parameters()]
        [False, False]

        It also works as a decorator:

        >>> @tc.creator_scope(frozen)
        ... def make():
        ...     return tc.variable(1.0)
        >>> make().requires_grad
        False
    """

    __slots__ = ("creator", "modules", "opened")

    def __init__(self, creator: Creator, *, modules: bool = True) -> None:
        if not callable(creator):
            raise VariableTypeError(
                f"creator_scope got {shown(creator)}.",
                "It is called as creator(next_creator, **kwargs) for each variable.",
                "Pass a function, def creator(next_creator, **kwargs): "
                "return next_creator(**kwargs), say.",
            )
        if modules is not True and modules is not False:
            raise VariableTypeError(
                f"creator_scope got modules={shown(modules)}.",
                "The parameters of stock modules either pass the creator or do not.",
                "Pass True or False.",
            )
        self.creator = creator
        self.modules = modules
        self.opened = False

    def __enter__(self) -> None:
        if self.opened:
            raise ScopeError(
                f"{self!r} is already open.",
                "One scope object stands for one place in the chain.",
                "Make a new one: creator_scope(creator).",
            )
        outward = current.get()
        current.set(_linked(self, outward, Root() if outward is None else _root(outward)))
        self.opened = True
        if observers.watcher is not None:
            observers.watcher.opened(self)

    def __exit__(self, *exc_info: object) -> None:
        innermost = current.get()
        self.opened = False
        if observers.watcher is not None:
            observers.watcher.closed(self)
        if innermost is not None and innermost.scope is self:
            outward = innermost.outward
            current.set(outward)
            if outward is None or outward.root is not innermost.root:
                innermost.root.close()
            return
        outward = _without(self, innermost)
        current.set(outward)
        for root in _roots(innermost) - _roots(outward):
            root.close()
        raise ScopeError(
            f"Exiting {self!r} without proper nesting.",
            "A scope that was opened inside it is still open, or it was opened in another task.",
            "Close scopes in the reverse order of opening, best by with-blocks. "
            "This one is closed now all the same.",
        )

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` with each of its calls inside a scope of its own."""
        if any(runs_later(function) for runs_later in _RUN_LATER):
            raise VariableTypeError(
                f"{self!r} decorates {shown(function)}.",
                "The body of a coroutine or generator runs after the call that makes it returned.",
                "Open the scope inside it: with creator_scope(creator): ...",
            )

        @functools.wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> R:
            with creator_scope(self.creator, modules=self.modules):
                return function(*args, **kwargs)

        return inside

    def __repr__(self) -> str:
        return f"creator_scope({called(self.creator)})"


def _roots(link: Link | None) -> set[Root]:
    return set() if link is None else {link.root, *_roots(link.outward)}


def _without(scope: creator_scope, link: Link | None) -> Link | None:
    """Return the chain without ``scope``; the links inside it are built anew."""
    if link is None or link.scope is scope:
        return link and link.outward
    return _linked(link.scope, _without(scope, link.outward), link.root)


def returned_none(creator: Creator, name: Any) -> CreatorResultError:
    """Return the error for a creator that forgot to return what it made."""
    return CreatorResultError(
        f"Creator {called(creator)} returned None for variable {name or 'Variable'!r}.",
        "Whatever a creator returns becomes the variable.",
        "End it with: return next_creator(**kwargs)",
    )
