"""The process's default generators, which others use at the same time: what becomes of them.

They are moved on and never back, unless nobody else has drawn since: a number that another thread
got is not given out again.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch

from torchcreator._recorder.rng_jump import advance, as_written
from torchcreator._recorder.rng_spots import Base, Origin
from torchcreator._recorder.rng_states import (
    WAITS,
    distance,
    is_fresh,
    mark,
    moved,
    next_mark,
    raw_of,
    word_and_block,
)
from torchcreator._torch.dispatch import past_dispatch

DEFAULT = threading.RLock()
"""Held while this package moves a default generator."""

_AT_ONCE = 1 << 18  # outputs that are drawn: nobody can come between
_BUDGET = 1 << 15  # blocks of outputs that others may draw while one constructor runs
_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


class Root:
    """A state that the constructor found or set, and how far the generator went from there."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.farthest = 0


class _Place(NamedTuple):
    """Where a default generator stands while a constructor runs.

    Attributes:
        root: What it was moved on from.
        origin: What a draw comes after that is made now.
        offset: How many outputs were taken since the root.
        others: How many of them others took.
    """

    root: Root
    origin: Origin
    offset: int
    others: int

    def on(self, outputs: int) -> _Place:
        """Return the place after others took so many."""
        return self._replace(offset=self.offset + outputs, others=self.others + outputs)


class _Run:
    """Places of one block of outputs, each one output after the other.

    Attributes:
        begin: Its first place.
        origins: The origin of each.
    """

    __slots__ = ("begin", "origins")

    def __init__(self, begin: _Place) -> None:
        self.begin = begin
        self.origins = [begin.origin]

    def at(self, number: int) -> _Place:
        """Return one of the places."""
        root, _, offset, others = self.begin
        return _Place(root, self.origins[number], offset + number, others)

    @property
    def last(self) -> _Place:
        """The last place."""
        return self.at(len(self.origins) - 1)


def _rooted(state: torch.Tensor) -> _Place:
    """Return the place of a state that was found or set."""
    base = Base(state)
    return _Place(Root(base), base, 0, 0)


class Watch:
    """A default generator while a constructor is recorded.

    No draw is made then, so one could not see that the constructor puts back a state which it
    saved before a draw. So each recorded draw takes an output, a *token*: all places differ, and
    the state before a draw tells what was done to the generator since the last one.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._on_cpu = generator.device.type == "cpu"
        self._moves = True  # on at the end, even if others have moved it
        self._budget = _BUDGET
        self._runs: dict[bytes, list[tuple[int, _Run]]] = {}  # by block, and where they begin
        self._token: torch.Tensor | None = None
        self._run: _Run  # in which the generator is, in the last place
        self._mark: bytes
        with DEFAULT, as_written():
            self._found = generator.get_state()
            self._saw(self._found, _rooted(self._found))
            _watches.add(self)

    def noted(self, number: int) -> Origin:
        """Return what a draw comes after that is made now, and mark the generator as behind it."""
        with DEFAULT:
            self._look()
            origin = self._run.origins[-1]
            self._pass(number)
            return origin

    def origin(self) -> Origin:
        """Return what a draw comes after that is made now."""
        with DEFAULT:
            self._look()
            return self._run.origins[-1]

    def drawn(self, left: Base) -> None:
        """Mark the generator as standing behind a draw that left this."""
        with DEFAULT:
            self._look()
            self._pass(left)

    def _pass(self, by: Origin) -> None:
        """Take tokens, as many as it is to a place where the generator never was."""
        run = self._run
        root, _, offset, others = run.begin
        offset += len(run.origins) - 1
        tokens = root.farthest + 1 - offset
        guard = past_dispatch()
        try:
            token = self._token
            if token is None:
                token = torch.empty(1, dtype=torch.uint8, device=self._generator.device)
                self._token = token
            if tokens <= 1:  # nearly always
                tokens = 1
                token.random_()
                following = next_mark(self._mark) if self._on_cpu else b""
            else:
                following = self._pass_known(token, tokens)
        finally:
            del guard
        root.farthest = offset = offset + tokens
        if following:
            self._mark = following
            run.origins.append(by)
        else:
            self._saw(self._generator.get_state(), _Place(root, by, offset, others))

    def _pass_known(self, token: torch.Tensor, outputs: int) -> bytes:
        if self._on_cpu:
            token.new_empty(outputs).random_()
        while not self._on_cpu:
            token.random_()
            if self._known(mark(self._generator.get_state())) is None:
                break
        return b""

    def put_back(self) -> None:
        """Leave the generator as it was found, unless others drew from it."""
        with DEFAULT, as_written():
            self._look()
            here = self._run.last
            _watches.discard(self)
            self._moves, self._token = False, None
            if not here.others:
                self._set_to(self._found, lambda: -here.offset)
                self._run = _Run(here._replace(offset=0))

    def finish(
        self, final: Callable[[Origin], torch.Tensor], outputs: Callable[[Origin], int]
    ) -> None:
        """Leave the generator where the plain constructor would have left it.

        One that was put back and used since, or that somebody has seeded, is left alone.

        Args:
            final: Returns the state there, had nobody else drawn since the constructor began.
            outputs: Returns how many outputs that is after its root.
        """
        target = final(self._run.origins[-1])
        with DEFAULT, as_written():
            _watches.discard(self)
            here, state = self._run.last, self._generator.get_state()
            raw = raw_of(state)
            if raw == raw_of(target):
                pass  # most devices were not drawn on
            elif mark(state) == self._mark and not here.others:
                self._set_to(target, lambda: outputs(here.origin) - here.offset)
            elif self._moves and (taken := distance(self._state, raw, self._budget)) is not None:
                here = here.on(self._seen + taken - here.offset)
                further = outputs(here.origin) + here.others - here.offset
                if further > 0:  # else it went further for tokens than the draws would have gone
                    self._go_on(further, target)
            self._moves, self._token = False, None

    def look(self) -> None:
        """Learn what the constructor did to the generator since the last draw."""
        with DEFAULT, as_written():
            self._look()

    def _look(self) -> None:
        state = self._generator.get_state()
        found = mark(state)
        if found != self._mark:  # the constructor or somebody else
            self._saw(state, self._known(found) or self._found_at(state))

    def _known(self, found: bytes) -> _Place | None:
        """Return the place of a state in which the generator has been, by its mark."""
        word, block = word_and_block(found)
        for first, run in reversed(self._runs.get(block, ())):
            if first <= word < first + len(run.origins):
                return run.at(word - first)
        return None

    def _saw(self, state: torch.Tensor, place: _Place) -> None:
        """Learn where the generator is."""
        self._state, self._seen = state, place.offset
        self._mark, self._run = mark(state), _Run(place)
        word, block = word_and_block(self._mark)
        self._runs.setdefault(block, []).append((word, self._run))

    def _found_at(self, state: torch.Tensor) -> _Place:
        """Return a place that is not known: further on, as others drew, or set."""
        raw, here = raw_of(state), self._run.last
        if not is_fresh(raw):
            taken = distance(self._state, raw, self._budget)
            self._budget -= self._budget // 2 if taken is None else taken // 624
            others = -1 if taken is None else self._seen + taken - here.offset
            if others > 0 or (others == 0 and self._mark[-WAITS:] == raw[-WAITS:]):
                return here.on(others)
        return _rooted(state)

    def _set_to(self, state: torch.Tensor, further: Callable[[], int]) -> None:
        """Set the generator, and tell the constructors that are recorded at the same time."""
        others = self._others()
        self._generator.set_state(state)
        self._moved(others, further() if others else 0)

    def _go_on(self, outputs: int, target: torch.Tensor) -> None:
        """Move the generator on from where it is, which others may be doing as well."""
        others = self._others()
        alike = raw_of(self._generator.get_state())[-WAITS:] == raw_of(target)[-WAITS:]
        if self._on_cpu and outputs < _AT_ONCE and alike:
            advance(self._generator, outputs)
        else:
            raw = b""
            while raw != (raw := raw_of(state := self._generator.get_state())):
                on = moved(state, outputs, target)
            self._generator.set_state(on)
        self._moved(others, outputs)

    def _others(self) -> list[Watch]:
        """Return the watches of the same generator, which have seen where it is."""
        device = self._generator.device
        others = [w for w in _watches if w is not self and w._generator.device == device]
        for watch in others:
            watch._look()
        return others

    def _moved(self, others: list[Watch], outputs: int) -> None:
        state = self._generator.get_state()
        self._saw(state, self._run.last)
        for watch in others:
            watch._saw(state, watch._run.last.on(outputs))
