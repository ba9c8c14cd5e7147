"""Stands between the creators while a model is inspected, and notes what each one changes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock, get_ident
from typing import Any

from torch import nn

from torchcreator._call_site import opener, place
from torchcreator._chain import decorator, observers, scope
from torchcreator._chain.closing import chain
from torchcreator._chain.open_scopes import Link
from torchcreator._errors import called
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.types import Creator, NextCreator, VariableKwargs
from torchcreator.creators._changes import differs, in_words
from torchcreator.creators._made import declaration_of_new
from torchcreator.report._rows import TIED, Decision

_BETWEEN = (__file__, scope.__file__, decorator.__file__, contextlib.__file__)
_KEYWORDS = tuple(VariableKwargs.__annotations__)


@dataclass
class Journey:
    """The way of one variable through the creators.

    Attributes:
        decisions: What they did, the innermost first; None for one that is still at work.
        device: What the outermost creator that handed the variable on asked for.
        parameter: What came out.
        declaration: What that was declared as.
    """

    decisions: list[Decision | None] = field(default_factory=list)
    device: Any = None
    parameter: nn.Parameter | None = None
    declaration: VariableSpec | None = None

    @property
    def changes(self) -> tuple[Decision, ...]:
        """What the creators did that did something."""
        made = (d for d in self.decisions if d is not None)
        return tuple(d for d in made if d.changed or d.answered)


class Trace:
    """Every variable's journey, from the scopes that open while `tracing`.

    Attributes:
        journeys: In the order in which they ended. They hold the parameters.
        inside: Whether the scopes that open now are the factory's own, opened at a line of it.
    """

    def __init__(self) -> None:
        self.journeys: list[Journey] = []
        self.inside = True
        self._handed_on: tuple[Journey, int, int] | None = None
        self._labels: dict[int, tuple[str, str | None, Creator]] = {}
        self._numbers: dict[str, dict[tuple[str | None, int], int]] = {}

    def traced(self, creator: Creator, outward: Link | None) -> Creator:
        """Return what is called in the place of a scope's creator, inside ``outward``."""
        label, opened = self._label(creator, outward, sys._getframe(2))
        return self._between(creator, label, opened, depth=len(list(chain(outward))))

    def _label(self, creator: Creator, outward: Link | None, frame: Any) -> tuple[str, str | None]:
        """Return a name that tells creators apart, and where the scope was opened."""
        name = in_words("creator", creator)
        opened = place(*opener(frame, _BETWEEN)) if self.inside else None
        same = (name, opened)
        around = (self._labels.get(id(link.creator)) for link in chain(outward))
        nested = sum(label is not None and label[:2] == same for label in around)
        self._labels[id(creator)] = (*same, creator)  # held, for its id
        numbers = self._numbers.setdefault(name, {})
        number = numbers.setdefault((opened, nested), len(numbers) + 1)
        return (name if number == 1 else f"{name} ({number})"), opened

    def _between(self, creator: Creator, label: str, opened: str | None, depth: int) -> Creator:
        def probe(next_creator: NextCreator, /, **given: Any) -> nn.Parameter:
            journey, number, begun = self._continued(depth)
            before = {key: given.get(key) for key in _KEYWORDS}
            before["tags"] = dict(before["tags"] or {})  # a creator may write into them
            received: tuple[dict[str, Any], _Facts] | None = None

            def hand_on(**passed: Any) -> nn.Parameter:
                nonlocal received
                journey.device = passed.get("device")
                waiting, self._handed_on = self._handed_on, (journey, depth, number)
                try:
                    made = next_creator(**passed)
                finally:
                    self._handed_on = waiting
                if isinstance(made, nn.Parameter):  # else the end of the chain will say so
                    received = passed, _Facts(made)
                return made

            made = creator(hand_on, **given)
            changed: dict[str, tuple[str, str]] = {}
            if received is not None and isinstance(made, nn.Parameter):
                handed, facts = received
                changed = {**_changes(before, handed), **facts.changes(made)}
            journey.decisions[number] = Decision(label, opened, changed, received is None)
            if begun and isinstance(made, nn.Parameter):
                journey.parameter, journey.declaration = made, declaration_of_new(made)
                self.journeys.append(journey)
            return made

        probe.__qualname__ = called(creator)
        return probe

    def _continued(self, depth: int) -> tuple[Journey, int, bool]:
        """Return the journey that a creator takes part in, its number there, and if it begins it.

        A variable that a creator or an initial value makes on the side enters the chain at its
        inner end again: that is a journey of its own.
        """
        handed_on, self._handed_on = self._handed_on, None
        if handed_on is None or depth >= handed_on[1]:
            return Journey([None]), 0, True
        journey, _, last = handed_on
        del journey.decisions[last + 1 :]  # of an earlier call of next_creator
        journey.decisions.append(None)
        return journey, last + 1, False


class _Facts:
    """What a parameter was when a creator received it from the next one."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter
        self._trainable = parameter.requires_grad
        self._words = _kind(parameter)

    def changes(self, made: nn.Parameter) -> dict[str, tuple[str, str]]:
        """Return what the creator made of it before it returned it."""
        changed = {}
        if made.requires_grad is not self._trainable:
            changed["trainable"] = (str(self._trainable), str(made.requires_grad))
        if made is not self._parameter:
            changed["parameter"] = (self._words, _kind(made))
        return changed


def _kind(parameter: nn.Parameter) -> str:
    placements: Any = getattr(parameter, "placements", ())
    words = [type(parameter).__name__, *map(repr, placements), in_words("dtype", parameter.dtype)]
    return " ".join(words)


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[str, str]]:
    changed = {
        key: (in_words(key, before[key]), in_words(key, after.get(key)))
        for key in _KEYWORDS
        if key != "tags" and differs(key, before[key], after.get(key, _UNSET.get(key)))
    }
    old, new = before["tags"], after.get("tags") or {}
    for tag in {**old, **new}:
        if tag != TIED and differs("tag", old.get(tag), new.get(tag)):
            changed[f"tags.{tag}"] = (in_words("tag", old.get(tag)), in_words("tag", new.get(tag)))
    return changed


_UNSET: dict[str, Any] = {"validate_shape": True}
"""What a keyword that a creator drops becomes, where that is not None or what None stands for."""


class _Tracers:
    """Every trace under way, each in its own thread."""

    def __init__(self) -> None:
        self._traces: dict[int, Trace] = {}
        self._changing = Lock()

    def traced(self, creator: Creator, outward: Link | None) -> Creator:
        """Return what is called in the place of a scope's creator, in whichever thread this is.

        One that inspects nothing, because another does, gets the creator itself.
        """
        trace = self._traces.get(get_ident())
        return creator if trace is None else trace.traced(creator, outward)

    def exchange(self, trace: Trace | None) -> Trace | None:
        """Put a trace in the place of this thread's; return the one that was there."""
        with self._changing:
            before = self._traces.pop(get_ident(), None)
            if trace is not None:
                self._traces[get_ident()] = trace
            observers.tracer = self if self._traces else None
        return before


_tracers = _Tracers()


@contextlib.contextmanager
def tracing() -> Iterator[Trace]:
    """Trace the scopes that this thread opens in the block."""
    trace = Trace()
    before = _tracers.exchange(trace)
    try:
        yield trace
    finally:
        _tracers.exchange(before)
