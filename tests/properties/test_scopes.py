"""Scopes under everything that can be done to them, against a model of a few lines.

The machine opens, closes, closes out of order, makes variables and modules, raises, and does each
of these in one of several contexts, run by whichever of several threads. The model is a list of
open scopes for each context, and a set of names for each outermost scope.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import torchcreator as tc
from tests.properties.mistakes import BoomError
from torchcreator import _errors
from torchcreator._chain.open_scopes import current
from torchcreator._torch.dispatch import pop_dispatch_mode

WHERE = st.integers(0, 2)
THREAD = st.integers(0, 2)


class Model:
    """What should be open in one context, from the outermost scope inward."""

    def __init__(self, context, opened=(), names=None):
        self.context = context
        self.opened = list(opened)
        self.names = names  # shared with the contexts that inherited the outermost scope

    def given(self, name):
        """Return the name that a variable of this name gets, and remember it."""
        counted = (f"{name}_{number}" for number in range(1, 1000))
        got = name if name not in self.names else next(n for n in counted if n not in self.names)
        self.names.add(got)
        return got


class Scopes(RuleBasedStateMachine):
    """Do anything in any context and thread, and compare with the model."""

    def __init__(self):
        super().__init__()
        self.log = []
        self.pools = [ThreadPoolExecutor(1) for _ in range(2)]
        self.contexts = [Model(contextvars.Context()) for _ in range(3)]
        self.made = 0
        self.numbers = {}

    def teardown(self):
        for where in range(3):
            self.close(where)
        remaining = [self.remains(), *(pool.submit(self.remains).result() for pool in self.pools)]
        for pool in self.pools:
            pool.shutdown()
        assert remaining == [[], [], []]
        assert current.get() is None

    def close(self, where):
        """Close what is open in a context, which is then not used any more."""
        for scope in reversed(self.contexts[where].opened):
            self.run(where, 0, scope.__exit__, None, None, None)

    def remains(self):
        """Return the modes left in this thread, one that was closed from another gone too."""
        with tc.creator_scope(ones):
            remaining = _get_current_dispatch_mode_stack()
        for _ in remaining:  # the next example is not to fail because of this one
            pop_dispatch_mode()
        return remaining

    def run(self, where, thread, function, *arguments):
        """Run a function in a context, in this thread or in another one."""
        run = functools.partial(self.contexts[where].context.run, function, *arguments)
        return run() if thread == 0 else self.pools[thread - 1].submit(run).result()

    def scope(self):
        self.made += 1
        number = self.made

        def creator(next_creator, **kwargs):
            self.log.append(number)
            if (kwargs["tags"] or {}).get("fails") == number:
                raise BoomError(number)
            return next_creator(**kwargs)

        made = tc.creator_scope(creator, modules=number % 3 != 0)
        self.numbers[made] = number
        return made

    @rule(where=WHERE, thread=THREAD)
    def enter(self, where, thread):
        model, scope = self.contexts[where], self.scope()
        self.run(where, thread, scope.__enter__)
        if not model.opened:
            model.names = set()
        model.opened.append(scope)

    @rule(where=WHERE, thread=THREAD)
    def enter_again(self, where, thread):
        for scope in self.contexts[where].opened:
            if scope.opened:
                with pytest.raises(_errors.ScopeError, match="already open"):
                    self.run(where, thread, scope.__enter__)

    @rule(where=WHERE, thread=THREAD)
    def leave(self, where, thread):
        model = self.contexts[where]
        if model.opened:
            self.run(where, thread, model.opened.pop().__exit__, None, None, None)

    @rule(where=WHERE, thread=THREAD, data=st.data())
    def leave_out_of_order(self, where, thread, data):
        """Close a scope that is not the innermost, or not of this context at all."""
        model = self.contexts[where]
        everything = [scope for other in self.contexts for scope in other.opened]
        inner = model.opened[-1:]
        others = [scope for scope in everything if scope not in inner]
        if not others:
            return
        scope = data.draw(st.sampled_from(others))
        with pytest.raises(_errors.ScopeError, match="proper nesting"):
            self.run(where, thread, scope.__exit__, None, None, None)
        if scope in model.opened:
            model.opened.remove(scope)

    @rule(where=WHERE, thread=THREAD, name=st.sampled_from(["w", "w_1", "v"]))
    def make_a_variable(self, where, thread, name):
        model = self.contexts[where]
        if not model.opened:  # names are then the process's
            name = f"unscoped_{id(self)}_{self.made}_{len(self.log)}"
        self.log.clear()
        made = self.run(where, thread, functools.partial(tc.variable, 1.0, name=name))
        assert self.log == [self.numbers[scope] for scope in reversed(model.opened)]
        if model.opened:
            assert tc.spec_of(made).name == model.given(name)

    @rule(where=WHERE, thread=THREAD)
    def make_a_module(self, where, thread):
        self.log.clear()
        layer = self.run(where, thread, functools.partial(nn.Linear, 1, 1, bias=False))
        seeing = [scope for scope in reversed(self.contexts[where].opened) if scope.modules]
        assert self.log == [self.numbers[scope] for scope in seeing]
        assert (tc.spec_of(layer.weight) is not None) == bool(seeing)

    @rule(where=WHERE, thread=THREAD)
    def make_a_module_of_ones(self, where, thread):
        """A scope of its own, whose value must stick, in whatever thread and context."""

        def build():
            with tc.creator_scope(ones):
                return nn.Linear(2, 2, bias=False).weight.sum().item()

        assert self.run(where, thread, build) == 4

    @rule(where=WHERE, thread=THREAD, data=st.data())
    def raise_in_a_creator(self, where, thread, data):
        model = self.contexts[where]
        if not model.opened:
            return
        numbers = [self.numbers[scope] for scope in reversed(model.opened)]
        fails = data.draw(st.sampled_from(numbers))
        self.log.clear()
        call = functools.partial(tc.variable, 1.0, name="w", tags={"fails": fails})
        with pytest.raises(BoomError, match=str(fails)):
            self.run(where, thread, call)
        assert self.log == numbers[: numbers.index(fails) + 1]

    @rule(where=WHERE, thread=THREAD, depth=st.integers(1, 3))
    def raise_in_a_block(self, where, thread, depth):
        def block():
            with contextlib.ExitStack() as stack:
                for _ in range(depth):
                    stack.enter_context(self.scope())
                tc.variable(1.0, module=nn.Module())
                raise BoomError("block")

        with pytest.raises(BoomError, match="block"):
            self.run(where, thread, block)

    @precondition(lambda self: any(model.opened for model in self.contexts))
    @rule(where=WHERE, into=WHERE)
    def inherit(self, where, into):
        """Start a context anew as a copy of another one, as a task is started."""
        source = self.contexts[where]
        copied = source.context.run(contextvars.copy_context)
        if into != where:
            self.close(into)
        self.contexts[into] = Model(copied, source.opened, source.names)

    @invariant()
    def what_is_open_is_what_the_model_says(self):
        for model in self.contexts:
            link, opened = model.context.run(current.get), []
            while link is not None:
                opened.append(link.scope)
                link = link.outward
            assert opened == model.opened[::-1]


def ones(next_creator, **kwargs):
    return next_creator(**{**kwargs, "initial_value": torch.ones(kwargs["shape"])})


Scopes.TestCase.settings = settings(max_examples=100, stateful_step_count=25)


class TestScopes(Scopes.TestCase):
    """Whatever is done in whatever order, the open scopes, calls and names are the model's."""
