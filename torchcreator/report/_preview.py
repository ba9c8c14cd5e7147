"""Ask the creators of the open scopes what they would make of a recorded model, making nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from typing_extensions import Unpack

from torchcreator._build.context import under_way
from torchcreator._build.recorded_parameter import TrueValue, ask, other_shape
from torchcreator._chain.closing import relinked
from torchcreator._chain.default import default_creator
from torchcreator._chain.open_scopes import Link, Root, current
from torchcreator._chain.scope import current_chain, linked
from torchcreator._chain.target import Asked, waiting_target
from torchcreator._recorder.recording import Recording
from torchcreator._spec.held import Held
from torchcreator._spec.lazy import uninitialized
from torchcreator._spec.spec import VariableSpec
from torchcreator._spec.types import NextCreator, VariableKwargs
from torchcreator.report._trace import Journey, Trace


class Foreseen:
    """What the creators would make of one parameter; a target that leaves the model as it is.

    Attributes:
        parameter: The recorded parameter.
        device: Where its constructor asked for it.
        made: What the default creator made in its stead, once it has.
        journey: What each creator did.
    """

    handed = None  # its creators are always heard

    region = None

    def __init__(self, held: Held, recording: Recording) -> None:
        self.module: nn.Module | None = held.places[0][0]
        self.name = held.names[0]
        self.parameter = held.parameter
        self.device = recording.device_of(held.parameter)
        self.value = TrueValue(recording, held.parameter, self.name)
        self.made: nn.Parameter | None = None
        self.spec: VariableSpec | None = None
        self.journey = Journey()

    def fill(self, data: torch.Tensor | None, asked: Asked) -> nn.Parameter:
        """Return a parameter on meta that stands for the recorded one."""
        own = self.parameter
        lazy: bool = is_lazy(own)
        if lazy:
            return uninitialized(asked.trainable, asked.device, asked.dtype or own.dtype)
        shape = asked.shape if data is None else data.shape
        if shape is not None and shape != own.shape:
            raise other_shape(self.name, own.shape, shape)
        if data is None:
            data = torch.empty(own.shape, dtype=asked.dtype or own.dtype, device="meta")
        return nn.Parameter(data, asked.trainable)

    @property
    def place(self) -> torch.device:
        """Where the creators would have it."""
        result = self.journey.parameter
        assert result is not None  # the creators returned it
        if self.made is None or not result.is_meta:  # theirs, or a fake one that says where it is
            return result.device
        asked = self.journey.device
        return self.device if asked is None else torch.device(asked)


@under_way
def foresee(
    model: nn.Module, recording: Recording, parameters: Sequence[Held], trace: Trace
) -> list[Foreseen]:
    """Call the creators of the open scopes for each parameter, as a build would.

    Args:
        model: The recorded model; it is left as it is.
        recording: Where its values would come from.
        parameters: Those that it holds.
        trace: Notes what the creators do.
    """
    link = current.get()
    assert link is not None  # somebody asked because there is one
    trace.inside = False  # these scopes were opened before
    opened = relinked(link, linked, around=_nothing_made(link.root))
    found = []
    token = current.set(opened)
    try:
        chain = current_chain(default_creator)
        for held in parameters:
            target = Foreseen(held, recording)
            names, spec = held.names, held.spec
            ask(chain, target, target.value, device=target.device, names=names, spec=spec)
            target.journey = trace.journeys.pop()
            found.append(target)
    finally:
        current.reset(token)
    return found


def _make_nothing(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
    """Make every variable on meta; where its shape is known, without asking for its value."""
    waiting = waiting_target()
    value: Any = kwargs.get("initial_value")
    shape, dtype = kwargs.get("shape"), kwargs.get("dtype")
    if waiting is not None and not is_lazy(waiting.parameter):
        shape = waiting.parameter.shape if shape is None else shape
        dtype = dtype or waiting.parameter.dtype
    own = waiting is not None and value is waiting.value
    if not own and callable(value) and not isinstance(value, torch.Tensor):
        kwargs["initial_value"] = _standing_for(value, shape, dtype)
    kwargs["device"] = "meta"
    return next_creator(**kwargs)


def _nothing_made(root: Root) -> Link:
    """Return a chain whose only creator makes nothing, and which no trace notes."""
    step = _make_nothing, default_creator
    return Link(None, _make_nothing, None, step, step, root)


def _standing_for(
    value: Callable[[], Any], shape: Any, dtype: torch.dtype | None
) -> Callable[[], Any]:
    def stand_in() -> Any:
        if shape is not None and dtype is not None:
            return torch.empty(tuple(shape), dtype=dtype, device="meta")
        with torch.device("meta"):
            return value()

    return stand_in
