"""Where the random numbers of a replay come from: what the two ways to draw share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torchcreator._recorder.op_schema import Traits
from torchcreator._recorder.replay import arguments, contents
from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_jump import Start, place_of
from torchcreator._recorder.rng_probes import known_draw
from torchcreator._recorder.rng_protocol import Draws
from torchcreator._recorder.rng_watch import DEFAULT
from torchcreator._recorder.tape import Tape
from torchcreator._torch.dispatch import no_function_modes
from torchcreator._torch.tensors import same_generator


class Explicit:
    """The draws that a constructor made from generators of its own: the same in both ways.

    The generator moves on while the constructor runs by what each such draw takes, and its value is
    drawn from the state before when it is wanted.

    Attributes:
        states: The devices and these states, by the number of the draw.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.states: dict[int, tuple[torch.device, torch.Tensor]] = {}

    def noted(self, number: int, generator: torch.Generator, draws: Draws) -> None:
        """Keep the generator's state before operation ``number``, and move it on."""
        op, state = self._tape.ops[number], generator.get_state()
        self.states[number] = generator.device, state
        draw = known(self._tape, number) if generator.device.type == "cpu" else None
        if draw is None:
            args, kwargs = scratch_arguments(self._tape, number, draws)
            with torch.no_grad(), no_function_modes():
                drawn_with(op.func, op.traits, args, kwargs, generator)
            return
        outputs, waits = draw.taken(cached=place_of(state).cached)
        pair = outputs - 4 if draw.serial and waits else None
        generator.set_state(Start(state).after(outputs, keep_cached=waits, pair=pair))

    def run(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run operation ``number`` from its generator's state."""
        device, state = self.states[number]
        generator = torch.Generator(device)
        generator.set_state(state)
        op = self._tape.ops[number]
        return drawn_with(op.func, op.traits, args, kwargs, generator)


def scratch_arguments(tape: Tape, number: int, draws: Draws) -> tuple[list[Any], dict[str, Any]]:
    """Return real arguments for running a draw only for what it does to its generator.

    Args:
        tape: The tape that the operation is on.
        number: The operation's number.
        draws: Where the arguments' own random numbers come from.
    """
    op = tape.ops[number]
    environment = contents(tape, op.reads, draws, before=number) if op.reads else {}
    return arguments(tape, number, environment)


def known(tape: Tape, number: int) -> Draw | None:
    """Return what an operation draws, None where that is not known: not on the CPU, say."""
    op = tape.ops[number]
    return known_draw(op) if tape.device(op.writes[0]).type == "cpu" else None


def default_generator(device: torch.device) -> torch.Generator:
    """Return the default generator of a device."""
    if device.type == "cpu":
        return torch.default_generator
    module = torch.get_device_module(device)
    current = module.current_device()  # starts the device: it has no generators before
    index = current if device.index is None else device.index
    generator: torch.Generator = module.default_generators[index]
    return generator


def seedable(device: torch.device | None) -> list[torch.device]:
    """Return the devices whose default generators `torch.manual_seed` sets.

    An accelerator that was not used yet has none; ``device`` is about to be used, if it is there.
    """
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return [torch.device("cpu")]
    module = torch.get_device_module(accelerator)
    if device is not None and device.type == accelerator.type and module.is_available():
        module.current_device()  # starts the device
    made = range(len(getattr(module, "default_generators", ())))
    return [torch.device("cpu"), *(torch.device(accelerator.type, index) for index in made)]


def is_default(generator: torch.Generator | None) -> bool:
    """Return whether a draw with ``generator=generator`` uses the default one."""
    if generator is None:
        return True
    return same_generator(generator, default_generator(generator.device))


def drawn_with(
    func: Callable[..., Any],
    traits: Traits,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    generator: torch.Generator,
) -> Any:
    """Run a draw with a generator.

    What takes none is run while the default one is in that one's state: a draw that another thread
    makes in this moment takes the next numbers of it.
    """
    if traits.seeded is not None:
        return traits.seeded(*args, **{**kwargs, "generator": generator})
    default = default_generator(generator.device)
    with DEFAULT:
        before = default.get_state()
        try:
            default.set_state(generator.get_state())
            result = func(*args, **kwargs)
            generator.set_state(default.get_state())
        finally:
            default.set_state(before)
    return result
