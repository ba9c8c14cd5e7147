"""Creators for tests: one fakes what is made, one writes it down."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from torchcreator._chain.checks import checked_device, checked_dtype, checked_shape
from torchcreator._chain.initial_value import InPlace, Wanted
from torchcreator._spec.types import NextCreator, VariableKwargs
from torchcreator.creators import Ledger, record
from torchcreator.testing._pattern import patterned


class FakeCreator:
    """Give every variable a fake value instead of computing its initial one.

    A fake has the shape, dtype and device that were asked for, may be written and trained, and
    follows from name and shape alone: no random numbers are drawn, and the generators are left as
    they are. Its elements are spread about 0.02 around zero, as transformers initialise theirs;
    those of vectors other than biases, which scale something, around one. Large fakes are views
    into one file in memory, copied page by page where they are written to, so that a model costs
    neither the time nor the memory of its parameters.

    A value that the caller already has, ``tc.variable(0.5)``, is kept, and so is one whose shape
    is not known before it is computed.

    Attributes:
        made: How many variables it gave a fake value.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.testing.FakeCreator()):
        ...     one, other = nn.Linear(1000, 1000), nn.Linear(1000, 1000)
        >>> torch.equal(one.weight, other.weight)
        True
        >>> one(torch.ones(1000)).isfinite().all().item()
        True
    """

    def __init__(self) -> None:
        self.made = 0

    def __call__(
        self, next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]
    ) -> nn.Parameter:
        value = kwargs.get("initial_value")
        in_hand = value is not None and not callable(value)
        if in_hand or kwargs.get("shape") is None:
            return next_creator(**kwargs)
        self.made += 1
        kwargs["initial_value"] = _value(kwargs)
        return next_creator(**kwargs)

    def __repr__(self) -> str:
        return "FakeCreator()"


def _value(kwargs: VariableKwargs) -> Callable[[], Any]:
    """Return what makes the fake, once the creators further out had their say on its dtype."""
    name = kwargs.get("name") or "Variable"
    wanted = Wanted(
        name,
        checked_shape(kwargs.get("shape"), name),
        checked_dtype(kwargs.get("dtype"), name),
        checked_device(kwargs.get("device"), name),
    )
    # Not in_place(), which would look at the signature of `_fake` for each variable.
    return InPlace(functools.partial(_fake, name), wanted)


def _fake(name: str, wanted: torch.Tensor) -> torch.Tensor:
    """Return a fake like ``wanted``, which the default creator made without a value."""
    if wanted.is_meta:
        return wanted
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.zeros_like(wanted)
    start = zlib.crc32(name.encode())
    value = patterned(wanted.numel(), wanted.dtype, start).view(wanted.shape)
    if wanted.dim() < 2 and "bias" not in name:
        value = value + 1
    return value.to(wanted.device)


class RecordingCreator:
    """Make variables as if it were not there, and write each one down.

    Attributes:
        ledger: What was made: names, shapes, owners, creators, in the order of creation.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> recording = tc.testing.RecordingCreator()
        >>> with tc.creator_scope(recording):
        ...     model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
        >>> recording.ledger.names
        ['0.weight', '0.bias', '1.weight']
        >>> recording.ledger.assert_created("*.weight", count=2)
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._record = record(self.ledger)

    def __call__(
        self, next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]
    ) -> nn.Parameter:
        return self._record(next_creator, **kwargs)

    def __repr__(self) -> str:
        return "RecordingCreator()"
