"""Chains linked anew: a scope that closes out of turn, and scopes that are to be traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torchcreator._chain import endings, observers
from torchcreator._chain.open_scopes import Link, Root, current
from torchcreator._errors import ScopeError

Linking = Callable[..., Link]


def close_out_of_turn(scope: Any, linked: Linking) -> ScopeError:
    """Close a scope that is not the innermost one here, and return the error that says so.

    One that is not open in this thread or task stays as it is.

    Args:
        scope: The scope.
        linked: Links one creator to a chain, as `scope.linked` does.
    """
    innermost = current.get()
    if all(link.scope is not scope for link in chain(innermost)):
        return _elsewhere(scope)
    outward = relinked(innermost, linked, without=scope)
    current.set(outward)
    scope.opened = False
    for root in _roots(innermost) - _roots(outward):
        root.close()
    if observers.watcher is not None:
        observers.watcher.closed(scope)
    endings.forget(scope)
    return ScopeError(
        f"Exiting {scope!r} without proper nesting.",
        "A scope that was opened inside it is still open.",
        "Close scopes in the reverse order of opening, best by with-blocks. "
        "This one is closed now all the same.",
    )


def relinked(
    link: Link | None, linked: Linking, *, around: Link | None = None, without: Any = None
) -> Link | None:
    """Return the open scopes linked anew.

    Args:
        link: The innermost one.
        linked: Links one creator to a chain.
        around: What is around them now.
        without: A scope to leave out.
    """
    for each in reversed([*chain(link)]):
        if each.scope is not without:
            around = linked(each.scope, each.creator, around, each.root)
    return around


def chain(link: Link | None) -> Iterator[Link]:
    """Yield the links of a chain, the innermost first."""
    while link is not None:
        yield link
        link = link.outward


def _roots(link: Link | None) -> set[Root]:
    return {each.root for each in chain(link)}


def _elsewhere(scope: Any) -> ScopeError:
    if scope.opened:
        return ScopeError(
            f"Exiting {scope!r} without proper nesting: it is open in another thread or task.",
            "Each thread and task has scopes of its own, which another one cannot close.",
            "Close it where it was opened, best by a with-block; it stays open there.",
        )
    return ScopeError(
        f"Exiting {scope!r} without proper nesting: it is not open.",
        "Only a scope that was entered, and not closed since, can be closed.",
        "Open it with a with-block, which closes it once.",
    )
