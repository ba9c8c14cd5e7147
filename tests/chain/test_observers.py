"""What is noted of open scopes and of hooks, for those who watch."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from torch.utils.hooks import RemovableHandle

import torchcreator as tc
from torchcreator._chain import observers
from torchcreator._torch import hooks
from torchcreator.pytest_plugin._open_scopes import OpenScope, OpenScopes


def passing(next_creator, **kwargs):
    return next_creator(**kwargs)


@pytest.fixture
def scopes(monkeypatch):
    """The scopes that are open, watched in place of whoever watches this suite."""
    watched = OpenScopes()
    monkeypatch.setattr(observers, "watcher", watched)
    return watched


def opener(record):
    """Return the line of this file that opened a scope."""
    assert Path(record.file) == Path(__file__)
    return Path(__file__).read_text().splitlines()[record.line - 1].strip()


def test_a_scope_is_noted_while_it_is_open(scopes):
    """A scope is noted with the line that opened it, from opening to closing."""
    scope = tc.creator_scope(passing)
    with scope:
        assert opener(scopes.record(scope)) == "with scope:"
        assert str(scopes.record(scope)).startswith("creator_scope(passing), opened at ")
    assert scopes.record(scope) is None


def test_the_line_is_the_user_s():
    """Neither our own frames nor those of contextlib are taken for the line that opened it."""
    watched = OpenScopes()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(observers, "watcher", watched)

        @tc.creator_scope(passing)
        def decorated():
            return [opener(record) for record in watched.of(None)]

        stack.enter_context(tc.creator_scope(passing))
        assert [opener(record) for record in watched.of(None)] == [
            "stack.enter_context(tc.creator_scope(passing))"
        ]
        assert decorated()[0].startswith("assert decorated()[0]")
        stack.close()


def test_scopes_belong_to_whoever_owned_them_when_they_opened(scopes):
    """An owner's scopes are listed from the innermost; other owners' are left out."""
    outer, inner, other = (tc.creator_scope(passing) for _ in range(3))
    scopes.owner = "test"
    with outer:
        scopes.owner = "module"
        with other:
            scopes.owner = "test"
            with inner:
                assert [record.scope for record in scopes.of("test")] == [inner, outer]
                assert [record.scope for record in scopes.of("module")] == [other]
                assert len(scopes.of("test", "module")) == 3
    assert scopes.of("test", "module") == []


def test_a_scope_that_could_not_be_closed_in_turn_is_forgotten(scopes):
    """Closing out of order forgets the scope that was closed, and only that one."""
    outer, inner = tc.creator_scope(passing), tc.creator_scope(passing)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(tc.TorchCreatorError, match="without proper nesting"):
        outer.__exit__(None, None, None)
    assert [record.scope for record in scopes.of(None)] == [inner]
    inner.__exit__(None, None, None)


def test_a_file_elsewhere_keeps_its_full_path(scopes):
    """The path of a file below the working directory is shown from there, any other in full."""
    with tc.creator_scope(passing):
        [record] = scopes.of(None)
    near = OpenScope("scope", str(Path.cwd() / "a/b.py"), 3, record.context, None)
    far = OpenScope("scope", "/elsewhere/b.py", 3, record.context, None)
    assert str(near) == "'scope', opened at a/b.py:3"
    assert str(far) == "'scope', opened at /elsewhere/b.py:3"


def test_a_removed_hook_is_registered_again(monkeypatch):
    """A hook that is gone from torch's table is put back, once, and its purpose is told."""
    noted = []

    class Table(dict):
        """A dictionary that can be referred to weakly, as torch's are."""

    table = Table()

    def register(hook):
        handle = RemovableHandle(table)
        table[handle.id] = hook
        return handle

    monkeypatch.setattr(hooks, "_hooks", noted)
    hooks.install("testing", register, passing)
    assert list(hooks.reinstall_lost_hooks()) == []
    table.clear()
    assert list(hooks.reinstall_lost_hooks()) == ["testing"]
    assert list(table.values()) == [passing]
    assert list(hooks.reinstall_lost_hooks()) == []


def test_every_hook_of_ours_is_registered():
    """Each says what it is for, and torch has it."""
    assert hooks.hooks()
    assert all(hook.registered and hook.purpose for hook in hooks.hooks())
