"""The creator chain: scopes nest, and each variable passes their creators, innermost first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from torchcreator._chain import endings, observers
from torchcreator._chain.closing import close_out_of_turn
from torchcreator._chain.complaints import (
    already_open,
    check_scope,
    returned_none,
    warn_never_entered,
)
from torchcreator._chain.decorator import decorated
from torchcreator._chain.default import adopt, default_creator
from torchcreator._chain.open_scopes import Link, Root, Step, innermost_link, set_innermost_link
from torchcreator._errors import called
from torchcreator._spec.types import Creator, NextCreator

P = ParamSpec("P")
R = TypeVar("R")


def linked(scope: creator_scope, creator: Creator, outward: Link | None, root: Root) -> Link:
    """Return a chain with one more creator at its inner end."""
    heard = creator if observers.tracer is None else observers.tracer.traced(creator, outward)
    if outward is None:
        step: Step = heard, default_creator
        return Link(scope, creator, None, step, (heard, adopt) if scope.modules else None, root)
    step = heard, _next(outward.step)
    if not scope.modules:
        module_step = outward.module_step
    elif outward.module_step is None:
        module_step = heard, adopt
    else:
        module_step = heard, _next(outward.module_step)
    return Link(scope, creator, outward, step, module_step, root)


def _next(step: Step) -> NextCreator:
    """Return a creator, and the rest of the chain behind it, as one call."""
    creator, onward = step

    def next_creator(**kwargs: Any) -> Any:
        made = creator(onward, **kwargs)
        if made is None:
            raise returned_none(creator, kwargs.get("name"))
        return made

    return next_creator


def current_step(end: NextCreator) -> Step | None:
    """Return the innermost creator and what is behind it, up to ``end``; None if none is open."""
    links = []
    link = innermost_link()
    while link is not None:
        links.append(link)
        link = link.outward
    step: Step | None = None
    for link in reversed(links):
        step = link.step[0], end if step is None else _next(step)
    return step


def current_chain(end: NextCreator) -> NextCreator:
    """Return the creators of the open scopes, and ``end`` behind them, as one call."""
    step = current_step(end)
    return end if step is None else _next(step)


class creator_scope:
    """Let creators decide how the variables made inside the block are made.

    Scopes nest, and several creators stand for as many scopes, the first one outermost:
    ``creator_scope(a, b)`` is ``with creator_scope(a), creator_scope(b)``. The innermost creator
    is called first, and its ``next_creator`` is the next one outward; the outermost one reaches
    `default_creator`. (TensorFlow's order; Haiku and Flax run the other way round.) A creator may
    change the keywords, call ``next_creator`` never, once or many times, and return any
    parameter. Other threads and concurrent asyncio tasks see nothing of it; tasks started inside
    inherit it.

    Args:
        *creators: Each is called as ``creator(next_creator, **kwargs)`` for each variable, and
            returns it.
        modules: Whether the parameters of stock modules, made inside, pass them too. In `build`,
            `materialize` and `recreate` every parameter does.

    Raises:
        VariableTypeError: A creator is not callable, or there is none.
        ScopeError: The scope is entered twice, or closed before one that was opened inside it, or
            in another thread or task than the one that opened it.

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

    __slots__ = ("creators", "modules", "opened")

    def __init__(self, *creators: Creator, modules: bool = True) -> None:
        self.creators = creators
        self.modules = modules
        self.opened: bool | None = None  # never so far
        if len(creators) != 1 or not callable(creators[0]) or modules is not True:
            check_scope(self)

    def __enter__(self) -> None:
        if self.opened:
            raise already_open(self)
        link = innermost_link()
        root = Root() if link is None else Root.inside(link)
        for creator in self.creators:
            link = linked(self, creator, link, root)
        set_innermost_link(link)
        self.opened = True
        if observers.watcher is not None:
            observers.watcher.opened(self)

    def __exit__(self, kind: object = None, error: object = None, trace: object = None) -> None:
        innermost = innermost_link()
        if innermost is None or innermost.scope is not self:
            raise close_out_of_turn(self, linked)
        link = innermost.outward
        while link is not None and link.scope is self:
            link = link.outward
        set_innermost_link(link)
        self.opened = False
        if link is None or link.root is not innermost.root:
            innermost.root.close()
        if observers.watcher is not None:
            observers.watcher.closed(self)
        if endings.by_scope:  # some creator has something to say: a pattern that matched nothing
            endings.closed(self, error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` with each of its calls inside a scope of its own."""
        self.opened = self.opened or False
        return decorated(self, function)

    def __del__(self) -> None:
        try:
            if self.opened is None:
                warn_never_entered(self)
        except AttributeError:  # its arguments were refused
            pass

    def __repr__(self) -> str:
        return f"creator_scope({', '.join(map(called, getattr(self, 'creators', ())))})"
