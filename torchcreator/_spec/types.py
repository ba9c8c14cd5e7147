"""What a creator is: the keywords it receives, the call it makes, and what it may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import torch
from torch import nn
from typing_extensions import TypedDict, Unpack

from torchcreator._spec.enums import VariableAggregation, VariableSynchronization
from torchcreator.constraints._base import Constraint

if TYPE_CHECKING:
    import numpy as np
    from torch.distributed import ProcessGroup

Device: TypeAlias = torch.device | str | int
Shape: TypeAlias = Sequence[int]
Value: TypeAlias = Union[
    torch.Tensor, "np.ndarray[Any, Any]", "np.generic", complex, bool, Sequence[Any]
]
"""A tensor, an array, a number, or a nested list of numbers (``complex`` admits int and float)."""


class Sliceable(Protocol):
    """A value of which a part can be had without the rest, an array in a file, say."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Slice(Protocol):
    """The same in the manner of safetensors."""

    def get_shape(self) -> Sequence[int]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


InitialValue: TypeAlias = (
    Value | Sliceable | Slice | Callable[[], Value] | Callable[[torch.Tensor], object] | None
)
"""A value, what can be sliced, a callable that returns a value, an in-place initialiser (with
``shape=``), or None."""


class VariableKwargs(TypedDict, total=False):
    """The keywords of `torchcreator.variable`, as every creator receives them.

    A creator receives all of them, with the caller's raw values; it may pass fewer on, and those
    it drops take their defaults. The set may grow, so a creator takes ``**kwargs``.

    Example:
        >>> import torchcreator as tc
        >>> def frozen(next_creator: tc.NextCreator, **kwargs: Unpack[tc.VariableKwargs]):
        ...     kwargs["trainable"] = False
        ...     return next_creator(**kwargs)
        >>> with tc.creator_scope(frozen):
        ...     tc.variable(1.0).requires_grad
        False
    """

    initial_value: InitialValue
    trainable: bool | None
    validate_shape: bool
    caching_device: Device | None
    name: str | None
    dtype: torch.dtype | None
    constraint: Constraint | str | None
    synchronization: VariableSynchronization | str | None
    aggregation: VariableAggregation | str | None
    shape: Shape | None
    device: Device | None
    process_group: ProcessGroup | None
    tags: Mapping[str, Any] | None
    module: nn.Module | None


class NextCreator(Protocol):
    """The rest of the chain, as a creator calls it: keywords only, any number of times.

    Example:
        >>> import torchcreator as tc
        >>> def persistent(next_creator: tc.NextCreator, **kwargs):
        ...     try:
        ...         return next_creator(**kwargs)
        ...     except MemoryError:
        ...         return next_creator(**{**kwargs, "device": "cpu"})
        >>> with tc.creator_scope(persistent):
        ...     tc.variable(1.0).device
        device(type='cpu')
    """

    def __call__(self, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        """Make the variable with the creators further out, and return it."""
        ...


class Creator(Protocol):
    """A function that decides how a variable is made.

    It may change the keywords, call ``next_creator`` never, once or often, and return any
    parameter.

    Example:
        >>> import torchcreator as tc
        >>> def announce(next_creator, **kwargs):
        ...     print("making", kwargs["name"])
        ...     return next_creator(**kwargs)
        >>> with tc.creator_scope(announce):
        ...     _ = tc.variable([1.0, 2.0], name="gain")
        making gain
    """

    def __call__(
        self, next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]
    ) -> nn.Parameter:
        """Return the parameter; never None."""
        ...
