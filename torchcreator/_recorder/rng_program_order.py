"""Exact draws: every one sees the generator's state that it had in the plain constructor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from torchcreator._recorder.op_schema import Traits
from torchcreator._recorder.replay import ReplayError
from torchcreator._recorder.rng import (
    Explicit,
    default_generator,
    drawn_with,
    known,
    scratch_arguments,
    seedable,
)
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_jump import advance
from torchcreator._recorder.rng_outputs import name_of
from torchcreator._recorder.rng_probes import tell
from torchcreator._recorder.rng_spots import Base, Cursor, Cursors, DisagreementError, Origin, Spot
from torchcreator._recorder.rng_states import distance, raw_of
from torchcreator._recorder.rng_watch import Watch
from torchcreator._recorder.tape import Tape
from torchcreator._torch.dispatch import no_function_modes

_NEAR = 1 << 18  # outputs that are drawn and forgotten rather than jumped over
_FARTHEST = 1 << 20  # blocks of outputs that one draw may take


class ProgramOrder:
    """Draws as the plain constructor made them, whatever order they are asked for in.

    A draw that comes after the one that a thread has just made goes on from there. One somewhere
    else needs the state at its *spot*: so many outputs after a state that is known. How many is
    known of most operations, without running them. One of which it is not known is run, into
    memory that is thrown away unless it is wanted, and its end is a state that is known.
    """

    ordered = True

    def __init__(self, tape: Tape, device: torch.device | None) -> None:
        self._tape = tape
        self._explicit = Explicit(tape)
        self._watches: dict[torch.device, Watch] = {}
        self._origins: dict[int, Origin] = {}
        self._spots: dict[int, Spot] = {}  # after draws
        self._cursors = Cursors()
        self._counts = True
        self._finished = False
        for each in seedable(device):
            self._of(each)

    def noted(self, number: int, device: torch.device, explicit: torch.Generator | None) -> None:
        """Learn that operation ``number`` draws on ``device``."""
        if explicit is not None:
            self._explicit.noted(number, explicit, self)
            return
        watch = self._watches.get(device) or self._of(device)
        self._origins[number] = watch.noted(number)

    def now(
        self,
        device: torch.device,
        func: Callable[..., Any],
        traits: Traits,
        args: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a draw on real tensors at its place in the program."""
        watch, cursor = self._of(device), self._cursors.on(device)
        origin = watch.origin()
        self._go(cursor, origin)
        cursor.origin = cursor.spot = None  # somewhere else, should it fail
        result = drawn_with(func, traits, args, kwargs, cursor.generator)
        cursor.origin = Base(cursor.generator.get_state(), before=origin)
        watch.drawn(cursor.origin)
        return result

    def seen(self, numbers: Iterable[int]) -> None:
        """Do nothing: a draw has one value here, whoever sees it."""

    asked = seen

    def answered(self, question: int, answer: bool) -> None:
        """Do nothing, for the same reason."""

    def recorded(self, parameters: Mapping[str, int], others: Mapping[str, int]) -> None:
        """Learn what the constructor did to the generators last; names play no part."""
        for watch in self._watches.values():
            watch.look()

    def put_back(self) -> None:
        """Leave the default generators as they were found, but for what others drew."""
        for watch in self._watches.values():
            watch.put_back()

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a draw in the state that it had."""
        if number in self._explicit.states:
            return self._explicit.run(number, args, kwargs)
        op = self._tape.ops[number]
        cursor = self._cursors.on(self._tape.device(op.writes[0]))
        self._go(cursor, self._origins[number])
        cursor.origin = cursor.spot = None  # somewhere else, should it fail
        result = drawn_with(op.func, op.traits, args, kwargs, cursor.generator)
        cursor.origin = cursor.drew = number
        spot = self._spots.get(number)
        if spot is not None and spot.base.number == number:
            spot.base.reached(cursor.generator.get_state())
        return result

    def piece(self, number: int, draw: Draw, first: int, target: torch.Tensor) -> None:
        """Draw what ``target`` holds of a draw, from its element ``first`` on."""
        if not self._counts:
            return  # all will be drawn again
        cursor, begin = self._cursors.on(target.device), self._spot(self._origins[number])
        self._leave(cursor)
        cursor.drew = number
        if not self._to(cursor, begin.further(first * draw.each)):
            return
        last = first + target.numel()
        draw.run(target, cursor.generator)
        if last == draw.elements:
            cursor.origin, cursor.spot = number, None
            self._spot(number)
        else:
            cursor.spot = begin.further(last * draw.each)

    def known(self, number: int) -> Draw | None:
        """Return what an operation draws, None where it cannot be drawn in pieces."""
        return known(self._tape, number) if self._counts and number in self._origins else None

    def base(self, number: int) -> Base | None:
        """Return what an operation's place is counted from; None if it has no place."""
        return self._spot(self._origins[number]).base if number in self._origins else None

    def reach(self, base: Base | None) -> None:
        """Run what has to be run until the state of a base is known."""
        missing: list[int] = []
        while base is not None and base.state is None and base.number is not None:
            missing.append(base.number)
            base = self._spot(self._origins[base.number]).base
        for number in reversed(missing):
            if self._spots[number].base.state is None:  # its arguments' own draws may have run it
                self._pass(number)

    def agrees(self) -> bool:
        """Return whether this thread has drawn what was reckoned, as all others did so far."""
        for cursor in self._cursors.made.values():
            self._leave(cursor, always=True)
            cursor.origin = cursor.spot = None  # where it begins again, another one may end
        return self._counts

    def restart(self) -> None:
        """Forget what was drawn where counts were wrong."""
        self._spots.clear()
        self._cursors = Cursors()

    def finish(self) -> None:
        """Leave the generators where the plain constructor would have left them, once."""
        if self._finished and self._counts:
            return
        self._finished = True
        for watch in self._watches.values():
            watch.finish(self._state_after, self._outputs_until)

    def _of(self, device: torch.device) -> Watch:
        found = self._watches.get(device)
        if found is None:
            found = self._watches[device] = Watch(default_generator(device))
        return found

    def _go(self, cursor: Cursor, origin: Origin) -> None:
        """Let a cursor stand after ``origin``."""
        if cursor.origin is None or cursor.origin != origin:
            self._leave(cursor)
            if not self._to(cursor, self._spot(origin)):
                self._to(cursor, self._spot(origin))  # without counts

    def _leave(self, cursor: Cursor, *, always: bool = False) -> None:
        """Keep the state after a draw, before a cursor goes somewhere else."""
        origin, spot = cursor.origin, cursor.spot
        if isinstance(origin, int):
            spot = self._spots.get(origin)
        elif spot is None:
            return
        state = cursor.generator.get_state()
        if spot is not None and spot.base.number == origin:  # it ran before anything asked for it
            spot.base.reached(state)
        kept = spot is not None and self._keep(cursor, spot, state, always=always)
        if not kept and isinstance(origin, int):  # whatever came before, it has ended here
            self._spots[origin] = Spot(Base(state, number=origin), 0, None, None)

    def _distrust(self, number: int) -> None:
        """Run from now on whatever has to be passed: a draw took something else than reckoned."""
        if self._counts:
            self._counts = False
            tell(name_of(self._tape.ops[number]))
        self.restart()

    def _keep(
        self, cursor: Cursor, spot: Spot, state: torch.Tensor, *, always: bool = False
    ) -> bool:
        """Keep a state; return whether it is the right one, as far as one can see."""
        try:
            spot.base.keep(spot, state, always=always)
        except DisagreementError:
            self._distrust(cursor.drew)
            return False
        return True

    def _to(self, cursor: Cursor, spot: Spot) -> bool:
        """Move a cursor to a spot; return whether the state there is the right one."""
        here = cursor.spot if cursor.origin is None else self._spot(cursor.origin)
        near = here is not None and here._replace(offset=spot.offset) == spot
        if near and here is not None and 0 <= spot.offset - here.offset < _NEAR:
            advance(cursor.generator, spot.offset - here.offset)
        else:
            state = self._state(spot)
            cursor.generator.set_state(state)
            if not self._keep(cursor, spot, state, always=here is None):
                return False
        cursor.origin, cursor.spot = None, spot
        return True

    def _spot(self, origin: Origin) -> Spot:
        """Return the spot after ``origin``."""
        missing: list[int] = []
        while isinstance(origin, int) and origin not in self._spots:
            missing.append(origin)
            origin = self._origins[origin]
        spot = self._spots[origin] if isinstance(origin, int) else Spot(origin, 0, None, None)
        for number in reversed(missing):
            draw = self._draw_at(number, spot)
            spot = spot.past(draw) if draw else Spot(Base(number=number), 0, None, None)
            spot = self._spots.setdefault(number, spot)
        return spot

    def _draw_at(self, number: int, before: Spot) -> Draw | None:
        """Return what is known of a draw, once and for all."""
        draw = self.known(number)
        hidden = before.waits is None and before.base.state is None
        return None if draw and draw.serial and hidden else draw

    def _state(self, spot: Spot) -> torch.Tensor:
        self.reach(spot.base)
        return spot.base.at(spot)

    def _state_after(self, origin: Origin) -> torch.Tensor:
        for cursor in self._cursors.made.values():
            if cursor.origin is not None and cursor.origin == origin:
                return cursor.generator.get_state()
        return self._state(self._spot(origin))

    def _pass(self, number: int) -> None:
        """Run a draw only for what it does to the generator."""
        op = self._tape.ops[number]
        args, kwargs = scratch_arguments(self._tape, number, self)
        with torch.no_grad(), no_function_modes():
            try:
                self.run(number, args, kwargs)
            except ReplayError:
                raise
            except Exception as error:
                raise ReplayError(op) from error

    def _outputs_until(self, origin: Origin) -> int:
        """Return how many outputs were taken until after ``origin`` since a state was found."""
        steps: list[tuple[Origin, Origin]] = []
        while (before := self._before(origin)) is not None:
            steps.append((before, origin))
            origin = before
        taken = 0
        for before, origin in reversed(steps):
            spot = self._spot(before)
            draw = self._draw_at(origin, spot) if isinstance(origin, int) else None
            if draw is not None:
                taken += spot.past(draw).offset - spot.offset
            else:
                end = raw_of(self._state_after(origin))
                taken += distance(self._state(spot), end, _FARTHEST) or 0
        return taken

    def _before(self, origin: Origin) -> Origin | None:
        return self._origins[origin] if isinstance(origin, int) else origin.before
