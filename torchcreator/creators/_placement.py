"""Creators that decide where a parameter is, and in what dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from typing_extensions import Unpack

from torchcreator._chain.initial_value import InPlace, wanted
from torchcreator._chain.sliceable import box_of, sliceable_shape
from torchcreator._errors import VariableTypeError, VariableValueError, shown
from torchcreator._spec.types import Creator, Device, NextCreator, VariableKwargs
from torchcreator._torch.dtensor import is_sharded
from torchcreator._torch.fakes import fake_mode, faked, is_fake
from torchcreator.creators._choice import Choice, ready
from torchcreator.creators._declare import checked_place, declares
from torchcreator.creators._elementwise import Elementwise
from torchcreator.creators._made import replaced, replacement_of

if TYPE_CHECKING:
    from torchcreator._torch.fakes import FakeTensorMode


def on(device: Device, **chosen: Unpack[Choice]) -> Creator:
    """Make every variable on a device.

    Args:
        device: A `torch.device`, or what makes one.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableTypeError: It is no device.
        VariableValueError: There is no device of that name, on any machine; whether this one has
            it, a variable finds out that is made there.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.on("cpu")):
        ...     layer = nn.Linear(2, 3, device="meta")
        >>> layer.weight.device
        device(type='cpu')
    """
    if device is None:
        raise VariableTypeError(
            "on got None.",
            "It says where variables are to be, and leaves none where it was.",
            "Pass a device, on('cpu'), say.",
        )
    device = checked_place(device, "on")
    return declares("on", repr(str(device)), choice=chosen, device=device)


def cast(dtype: torch.dtype, **chosen: Unpack[Choice]) -> Creator:
    """Make every floating variable in a dtype; integer, bool and complex ones stay as they are.

    Stock modules initialise themselves in that dtype, as ``nn.Linear(..., dtype=dtype)`` does;
    values that are given, and those that `build` replays or `recreate` finds, are converted.

    Args:
        dtype: A floating dtype.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Raises:
        VariableTypeError: It is no floating dtype.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.cast(torch.bfloat16)):
        ...     layer = nn.Linear(2, 3)
        ...     steps = tc.variable(0, name="steps")
        >>> layer.weight.dtype, steps.dtype
        (torch.bfloat16, torch.int64)
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise VariableTypeError(
            f"cast got {shown(dtype)}.",
            "It converts floating variables to another floating dtype.",
            "Pass one of torch's, cast(torch.bfloat16), say.",
        )

    @ready("cast", str(dtype), choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        value, declared = kwargs.get("initial_value"), kwargs.get("dtype")
        if declared is None and (isinstance(value, InPlace) or not callable(value)):
            declared = _dtype_of(value)
        if declared is None or declared.is_floating_point:
            kwargs["initial_value"] = _converted(value, dtype) if declared != dtype else value
            kwargs["dtype"] = declared and dtype
        return next_creator(**kwargs)

    return creator


def _dtype_of(value: Any) -> torch.dtype:
    """Return the dtype that a variable of this value would have."""
    if value is None or callable(value):
        return torch.get_default_dtype()
    shape = sliceable_shape(value)
    try:
        # No element of a file is looked at.
        value = value if shape is None else box_of(value, tuple([(0, 0) for _ in shape]))
        return torch.as_tensor(value).dtype
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return torch.get_default_dtype()  # the default creator says what is wrong with it


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """Return a value in another dtype, still to be called or sliced where it was.

    An in-place initialiser makes it in the final dtype, and so does torch from numbers.
    """

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    if isinstance(value, torch.Tensor):
        return convert(value.detach())
    later = callable(value) or sliceable_shape(value) is not None
    return Elementwise(value, convert) if later and not isinstance(value, InPlace) else value


def meta(**chosen: Unpack[Choice]) -> Creator:
    """Make every variable on the meta device: its shape and dtype, and no value.

    Initial values that are callables make nothing either.

    Args:
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Example:
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.meta()):
        ...     layer = nn.Linear(2, 3)
        >>> layer.weight.device
        device(type='meta')
    """

    @ready("meta", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        return next_creator(**_on_meta(kwargs))

    return creator


def fake(*, mode: FakeTensorMode | None = None, **chosen: Unpack[Choice]) -> Creator:
    """Make every variable a fake tensor: it has a device, and no memory.

    Operations on it give fake results of the right shape, dtype and device, so a model far larger
    than this machine can be made, and its forward traced. The device may be one that is not there.

    Args:
        mode: The mode that the fake tensors belong to; default: a new one, which lets real inputs
            and buffers take part.
        **chosen: Which variables: ``name=``, ``module=``, ``when=``, ``strict=``, as in `where`.

    Example:
        >>> import torch
        >>> import torchcreator as tc
        >>> from torch import nn
        >>> with tc.creator_scope(tc.creators.fake()):
        ...     layer = nn.Linear(50_000, 40_000)
        >>> layer(torch.ones(2, 50_000)).shape
        torch.Size([2, 40000])
    """
    mode = fake_mode() if mode is None else mode

    @ready("fake", choice=chosen)
    def creator(next_creator: NextCreator, /, **kwargs: Unpack[VariableKwargs]) -> nn.Parameter:
        device = kwargs.get("device")
        value = kwargs.get("initial_value")
        if device is None:
            own = value.device if isinstance(value, torch.Tensor) else None
            device = own or torch.get_default_device()
        made = next_creator(**_on_meta(kwargs))
        if is_lazy(made) or is_fake(made):
            return made
        if made.device.type != "meta":  # a creator further out put it elsewhere
            device = made.device
        if (replacement := replacement_of(made)) is not None:
            return replacement
        try:
            return replaced(made, _faked(mode, made, device))
        except (RuntimeError, AssertionError) as error:  # torch < 2.13, where there is a GPU
            reason = str(error).partition("\n")[0]
            raise VariableValueError(
                f"Variable {kwargs.get('name')!r} cannot be a fake on {shown(device)}.",
                f"Where there is a GPU, this torch makes fakes on devices that are there: {reason}",
                "Put it on a device that this machine has, creators.on('cpu') say, or describe the "
                "model where there is no GPU.",
            ) from error

    return creator


def _faked(mode: FakeTensorMode, tensor: torch.Tensor, device: Device) -> torch.Tensor:
    """Return a fake tensor like another one; of one that is sharded, this rank's shard is fake."""
    if not is_sharded(tensor):
        return faked(mode, tensor, device)
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        faked(mode, tensor.to_local(), device),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.size(),
        stride=tensor.stride(),
    )


def _on_meta(kwargs: VariableKwargs) -> VariableKwargs:
    value: Any = kwargs.get("initial_value")
    kwargs["device"] = "meta"
    if callable(value) and not isinstance(value, torch.Tensor):
        kwargs["initial_value"] = _called_on_meta(value)
    return kwargs


def _called_on_meta(value: Callable[[], Any]) -> Callable[[], Any]:
    def on_meta() -> Any:
        asked = wanted()
        if asked is not None and asked.device is not None and asked.device.type != "meta":
            return value()  # a creator further out wants it elsewhere
        with torch.device("meta"):
            return value()

    return on_meta
