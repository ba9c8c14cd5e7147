"""Gives each test the scopes it is marked with, and sees that it leaves nothing behind."""

from __future__ import annotations

import functools
import sys
from collections.abc import Generator
from contextvars import Context
from typing import Any

import pytest

from torchcreator._chain import observers
from torchcreator._torch import hooks
from torchcreator.pytest_plugin._marks import asked, forbids
from torchcreator.pytest_plugin._open_scopes import OpenScope, OpenScopes, close, opened

_FOR_GOOD = object()
"""Owns the scopes that were opened outside any test."""

_entered = pytest.StashKey[bool]()
_passed = pytest.StashKey[bool]()


def passed(item: pytest.Item) -> bool:
    """Return whether the test itself has run without an error."""
    return item.stash.get(_passed, False)


class Guard:
    """The hooks that run around each test."""

    def __init__(self, config: pytest.Config) -> None:
        self.scopes = OpenScopes(_FOR_GOOD)
        self.finished: list[object] = []
        # A pytest that runs inside a test of another one gives way to it afterwards.
        self.outer, observers.watcher = observers.watcher, self.scopes

    def stop(self) -> None:
        """Leave the watch to whom it was taken from."""
        observers.watcher = self.outer

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let names begin anew."""
        self.scopes.owner = item
        item.stash[_entered] = item.stash[_passed] = False
        root = sys.modules.get("torchcreator._chain.open_scopes")
        if root is not None:
            root.process_names.forget()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Open the test's scopes before the first fixture that is its own."""
        if fixturedef.scope == "function":
            self._enter(request.node)
            return (yield)
        # What a fixture for many tests opens may stay open until it is torn down itself.
        owner, self.scopes.owner = self.scopes.owner, fixturedef
        try:
            return (yield)
        finally:
            self.scopes.owner = owner

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Note a fixture that was torn down and has a scope open."""
        if self.scopes.of(fixturedef):
            self.finished.append(fixturedef)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Open the test's scopes, if no fixture did."""
        self._enter(item)
        _into_the_context_of(getattr(item, "instance", None))
        result = yield
        item.stash[_passed] = True
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Close and restore what is left, and fail the test for it."""
        try:
            result = yield
        except BaseException:
            if complaints := self._clear_up(item):
                item.add_report_section("teardown", "torchcreator", "\n\n".join(complaints))
            raise
        if complaints := self._clear_up(item):
            pytest.fail("\n\n".join(complaints), pytrace=False)
        return result

    def _enter(self, item: pytest.Item) -> None:
        if item.stash.get(_entered, True):
            return
        item.stash[_entered] = True
        for creator, modules in asked(item):
            scope = opened(creator, modules=modules)
            scope.__enter__()
            item.addfinalizer(functools.partial(scope.__exit__, None, None, None))

    def _clear_up(self, item: pytest.Item) -> list[str]:
        """Close and restore what is left, and return what to say of it."""
        left = self.scopes.of(item, *self.finished)
        self.finished.clear()
        for record in left:
            close(record)
        self.scopes.owner = _FOR_GOOD
        lost = list(hooks.reinstall_lost_hooks())
        complaints = []
        if left and forbids(item, "allow_open_scopes"):
            complaints.append(_left_open(item, left))
        if lost and forbids(item, "allow_changed_hooks"):
            complaints.append(_unhooked(item, lost))
        return complaints


def _into_the_context_of(instance: object) -> None:
    """Let the coroutines of an unittest.IsolatedAsyncioTestCase see the scopes of this thread.

    They run in a copy of the context that is taken when the instance is made, before its fixtures.
    """
    context = getattr(instance, "_asyncioTestContext", None)  # since Python 3.11
    root = sys.modules.get("torchcreator._chain.open_scopes")
    if isinstance(context, Context) and root is not None:
        context.run(root.current.set, root.current.get())


def _left_open(item: pytest.Item, left: list[OpenScope]) -> str:
    what = "a creator scope" if len(left) == 1 else f"{len(left)} creator scopes"
    lines = "".join(f"\n  {record}" for record in left)
    return (
        f"{item.nodeid} left {what} open:{lines}\n"
        "The variables of every later test would have gone through it; it is closed now.\n"
        "Write `with creator_scope(...):`, or let the fixture close it: creator_scopes(creator).\n"
        "If it is on purpose: @pytest.mark.torchcreator(allow_open_scopes=True)."
    )


def _unhooked(item: pytest.Item, lost: list[str]) -> str:
    return (
        f"{item.nodeid} removed torchcreator's hook in torch for {' and '.join(lost)}.\n"
        "Every later test would have done without; it is registered again.\n"
        "Remove your own hooks by their handles, and leave the others where they are.\n"
        "If it is on purpose: @pytest.mark.torchcreator(allow_changed_hooks=True)."
    )
