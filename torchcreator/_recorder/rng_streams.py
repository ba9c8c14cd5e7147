"""Seeded draws: each has a stream of random numbers of its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import torch

from torchcreator._recorder.op_schema import Traits
from torchcreator._recorder.rng import Explicit, default_generator, drawn_with, known, seedable
from torchcreator._recorder.rng_blocks import Beginnings, draw_blocks, in_blocks
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_jump import as_written
from torchcreator._recorder.rng_looks import Looks
from torchcreator._recorder.rng_outputs import draw_of
from torchcreator._recorder.rng_states import distance, raw_of
from torchcreator._recorder.rng_watch import DEFAULT
from torchcreator._recorder.tape import Tape
from torchcreator._torch.modules import without_wrappings

_ROWS = torch.contiguous_format
_OTHERS = 1 << 15  # blocks of outputs that others may draw while one constructor runs


class _Generators(threading.local):
    """A generator per device, for one thread: making one costs as much as a small draw."""

    def __init__(self) -> None:
        self._made: dict[torch.device, torch.Generator] = {}
        self._beginnings: Beginnings | None = None

    def on(self, device: torch.device) -> torch.Generator:
        """Return this thread's generator on a device."""
        generator = self._made.get(device)
        if generator is None:
            generator = self._made[device] = torch.Generator(device)
        return generator

    def beginnings(self) -> Beginnings:
        """Return what this thread begins blocks on the CPU with."""
        if self._beginnings is None:
            self._beginnings = Beginnings()
        return self._beginnings


class Streams:
    """Draws whose numbers depend on (seed, name of the first parameter that needs them, number).

    The first parameter is the first by name, and the number counts the draws that it depends on.
    So a value is the same whatever else is skipped, reordered, sharded or run at the same time. A
    draw that Python saw while the constructor ran keeps the value that it saw.
    """

    ordered = False

    def __init__(self, tape: Tape, seed: int, device: torch.device | None) -> None:
        self._tape = tape
        self._seed = seed
        self._explicit = Explicit(tape)
        self._seeds: dict[int, int] = {}
        self._used: set[int] = set()
        self._eager = 0
        self._frozen: set[int] = set()
        self._looks = Looks(tape)
        self._found: dict[torch.device, torch.Tensor] = {}
        self._generators = _Generators()
        for each in seedable(device):
            self._keep(each)

    def noted(self, number: int, device: torch.device, explicit: torch.Generator | None) -> None:
        """Learn that operation ``number`` draws on ``device``."""
        self._keep(device)
        if explicit is not None:
            self._explicit.noted(number, explicit, self)

    def now(
        self,
        device: torch.device,
        func: Callable[..., Any],
        traits: Traits,
        args: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a draw on real tensors in a stream of its own."""
        self._eager += 1
        generator = self._generators.on(device)
        generator.manual_seed(self._hash("at once", self._eager))
        return drawn_with(func, traits, args, kwargs, generator)

    def seen(self, numbers: Iterable[int]) -> None:
        """Freeze these draws as they are about to be seen: no name is known yet."""
        for number in numbers:
            self._assign(number, "seen", number)
            self._frozen.add(number)

    def asked(self, numbers: Iterable[int]) -> None:
        """Give these draws numbers for now, as a question about them is to be answered."""
        for number in numbers:
            self._assign(number, "seen", number)

    def answered(self, question: int, answer: bool) -> None:
        """Learn what the constructor was told by operation ``question``."""
        self._looks.note(question, answer)

    def recorded(self, parameters: Mapping[str, int], others: Mapping[str, int]) -> None:
        """Give each draw the name of the first parameter that depends on it."""
        self.put_back()
        ops, seeds = self._tape.ops, self._seeds
        named: dict[int, tuple[str, int]] = {}
        for storages in (parameters, others):
            by_name = [(without_wrappings(full), storage) for full, storage in storages.items()]
            for name, storage in sorted(by_name, key=itemgetter(0)):
                position = 0
                for number in self._tape.slice([storage]):
                    if ops[number].traits.draws:
                        if number not in seeds:
                            seeds[number] = self._hash(name, position)
                        elif number not in self._frozen:
                            named.setdefault(number, (name, position))
                        position += 1
        self._looks.rename(self, named, seeds, self._hash)

    def put_back(self) -> None:
        """Undo what the constructor did to the default generators; what others drew stands."""
        for device, found in self._found.items():
            generator = default_generator(device)
            with DEFAULT, as_written():
                raw = raw_of(generator.get_state())
                if raw != raw_of(found) and distance(found, raw, _OTHERS) is None:
                    generator.set_state(found)
        self._found.clear()

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a draw in its own stream."""
        if number in self._explicit.states:
            return self._explicit.run(number, args, kwargs)
        op = self._tape.ops[number]
        device = self._tape.device(op.writes[0])
        draw = in_blocks(op, device)
        if draw is None:
            generator = self._generators.on(device)
            generator.manual_seed(self._assign(number, "unnamed", number))
            return drawn_with(op.func, op.traits, args, kwargs, generator)
        if op.traits.fills:
            target = args[0]
        else:
            made = op.outputs[0]
            assert made is not None, op.name  # `in_blocks` has looked at it
            target = torch.empty_strided(made.size, made.stride, dtype=made.dtype, device=device)
        drawn = target if target.is_contiguous() else torch.empty_like(target, memory_format=_ROWS)
        self.piece(number, draw, 0, drawn)
        return target if drawn is target else target.copy_(drawn)

    def piece(self, number: int, draw: Draw, first: int, target: torch.Tensor) -> None:
        """Draw what ``target`` holds of a draw, from its element ``first`` on."""
        seed = self._assign(number, "unnamed", number)
        draw_blocks(draw, first, target, self._beginning(seed, target.device, draw))

    def agrees(self) -> bool:
        """Return True: no block depends on another."""
        return True

    def restart(self) -> None:
        """Do nothing: what is not cut is drawn as it is."""

    def known(self, number: int) -> Draw | None:
        """Return what an operation draws, None where it cannot be drawn in pieces."""
        if number in self._explicit.states:
            return None
        op = self._tape.ops[number]
        draw = in_blocks(op, self._tape.device(op.writes[0])) or draw_of(op)
        if draw is None:
            return None
        counted = known(self._tape, number)
        if counted is None or not counted.step:
            return draw._replace(step=draw.block)
        block = draw.block or draw.elements
        return draw._replace(step=counted.step, tail=counted.tail, block=block)

    def base(self, number: int) -> None:
        """Return None: no draw depends on another one's place."""

    def reach(self, base: Any) -> None:
        """Do nothing: there is nothing to wait for."""

    def finish(self) -> None:
        """Do nothing: the default generators were left alone."""

    def _beginning(
        self, seed: int, device: torch.device, draw: Draw
    ) -> Callable[[int], torch.Generator]:
        """Return what returns a generator of this thread at the beginning of a draw's block."""
        generator = self._generators.on(device)
        if draw.block == draw.elements:  # the only one
            return lambda _: generator.manual_seed(seed)
        stream = seed.to_bytes(8, "little")
        if device.type == "cpu":
            return partial(self._generators.beginnings().at, stream)

        def begin(block: int) -> torch.Generator:  # these look at 64 bits of a seed
            digest = hashlib.blake2b(stream + block.to_bytes(8, "little"), digest_size=8).digest()
            return generator.manual_seed(int.from_bytes(digest, "little") >> 1)

        return begin

    def _keep(self, device: torch.device) -> None:
        if device not in self._found:
            self._found[device] = default_generator(device).get_state()

    def _assign(self, number: int, name: str, position: int) -> int:
        if number not in self._seeds:
            self._seeds[number] = self._hash(name, position)
        return self._seeds[number]

    def _hash(self, name: str, position: int) -> int:
        """Return a seed for a stream, another than all before it.

        The CPU generator looks at 32 bits of a seed, few enough to meet among 10,000 draws.
        """
        for attempt in range(1 << 32):
            text = repr((self._seed, name, position, attempt)).encode()
            seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
            if seed & 0xFFFFFFFF not in self._used:
                break
        self._used.add(seed & 0xFFFFFFFF)
        return seed
