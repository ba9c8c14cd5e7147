"""Where draws stand among the outputs of a generator, and the state there."""

from __future__ import annotations

import threading
from typing import NamedTuple, TypeAlias

import torch

from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_jump import Place, Start, place_of

_APART = 1 << 14  # outputs between two states that are kept: drawing so many takes 30 us
_KEPT = 64  # states of 5 kB
_keeping = threading.Lock()


class DisagreementError(Exception):
    """A draw has taken something else than was reckoned."""


class Base:
    """A state that draws go on from: found, set, or left by a draw whose count is not known.

    Attributes:
        number: The draw that leaves it, None if there is none.
        before: What a draw that nobody recorded came after, for the base that it left.
    """

    def __init__(
        self,
        state: torch.Tensor | None = None,
        *,
        number: int | None = None,
        before: Origin | None = None,
    ) -> None:
        self.number = number
        self.before = before
        self._known: list[_Known] = []
        if state is not None:
            self.reached(state)

    @property
    def state(self) -> torch.Tensor | None:
        """The state, None until its draw has run."""
        return self._known[0].state if self._known else None

    def reached(self, state: torch.Tensor) -> None:
        """Learn the state, if it is not known yet."""
        if not self._known:
            self._known.append(_Known(0, None, None, Start(state), state))

    def cached(self) -> bool | None:
        """Return whether a normal value waits in the state; None if that is not known yet."""
        state = self.state
        return None if state is None else place_of(state).cached

    def at(self, spot: Spot) -> torch.Tensor:
        """Return the state at a spot that is counted from here."""
        near = next(known for known in reversed(self._known) if known.leads_to(spot))
        if near.at(spot):
            return near.state
        distance = spot.offset - near.offset
        if (near.waits, near.pair) == (spot.waits, spot.pair):
            return near.start.after(distance)
        pair = None if spot.pair is None else spot.pair - near.offset
        return near.start.after(distance, keep_cached=False, pair=pair)

    def keep(self, spot: Spot, state: torch.Tensor, *, always: bool = False) -> None:
        """Keep a state that was met at a spot, to go on from.

        Raises:
            DisagreementError: It is not the state that was met there before, or not in its place.
        """
        with _keeping:
            self._keep(spot, state, always=always)

    def _keep(self, spot: Spot, state: torch.Tensor, *, always: bool) -> None:
        known = self._known
        place = next(i for i in reversed(range(len(known))) if known[i].offset <= spot.offset)
        before = known[place]
        if before.at(spot):
            if not torch.equal(before.state, state):
                raise DisagreementError
            return
        expected = ahead(place_of(known[0].state), spot.offset)
        waits = place_of(known[0].state).cached if spot.waits is None else spot.waits
        if place_of(state) != expected._replace(cached=waits):
            raise DisagreementError
        apart = spot.offset - before.offset >= _APART and len(known) < _KEPT
        if always or apart:
            known.insert(place + 1, _Known(*spot[1:], Start(state), state))


class Spot(NamedTuple):
    """Where a draw begins or ends.

    Attributes:
        base: What it is counted from.
        offset: How many outputs after that.
        waits: Whether a normal value waits to be used; None where what waits in the base does.
        pair: Where the pair of normal values begins of which the second waits.
    """

    base: Base
    offset: int
    waits: bool | None
    pair: int | None

    def past(self, draw: Draw) -> Spot:
        """Return where a draw ends that begins here."""
        if not draw.serial:
            return self._replace(offset=self.offset + draw.outputs)
        waits = self.base.cached() if self.waits is None else self.waits
        outputs, waits = draw.taken(cached=bool(waits))
        offset = self.offset + outputs
        return Spot(self.base, offset, waits, offset - 4 if waits else None)

    def further(self, outputs: int) -> Spot:
        """Return the spot so many outputs on, of a draw that leaves alone what waits."""
        return self._replace(offset=self.offset + outputs)


class _Known(NamedTuple):
    """The state at a spot; its base, which holds it, is left out, so that both go when it goes."""

    offset: int
    waits: bool | None
    pair: int | None
    start: Start
    state: torch.Tensor

    def at(self, spot: Spot) -> bool:
        """Return whether it is the state at a spot of the same base."""
        return self[:3] == spot[1:]

    def leads_to(self, spot: Spot) -> bool:
        """Return whether the state at a spot can be made from this one."""
        if self.offset > spot.offset:
            return False
        if spot.waits is False or (self.waits, self.pair) == (spot.waits, spot.pair):
            return True
        return spot.pair is not None and self.offset <= spot.pair


Origin: TypeAlias = int | Base
"""What a draw comes after: another one, by its number, or a state."""


class Cursor:
    """A generator that goes from draw to draw, in one thread.

    Attributes:
        generator: The generator.
        origin: What it stands exactly after, if that is known.
        spot: Where it stands, if it was sent there or left a piece.
        drew: The last draw that it made.
    """

    def __init__(self, device: torch.device) -> None:
        self.generator = torch.Generator(device)
        self.origin: Origin | None = None
        self.spot: Spot | None = None
        self.drew = 0


class Cursors(threading.local):
    """A thread's cursors, by device."""

    def __init__(self) -> None:
        self.made: dict[torch.device, Cursor] = {}

    def on(self, device: torch.device) -> Cursor:
        """Return this thread's cursor on a device."""
        cursor = self.made.get(device)
        if cursor is None:
            cursor = self.made[device] = Cursor(device)
        return cursor


def ahead(place: Place, outputs: int) -> Place:
    """Return the place so many outputs on."""
    if not outputs:
        return place
    last = (625 - place.left + outputs - 1) % 624 + 1
    return Place(625 - last, last, place.cached)
