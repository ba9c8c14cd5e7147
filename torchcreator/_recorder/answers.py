"""What recorded tensors answer where torch would say "meta", or would need memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from torchcreator._recorder.asked_by_torch import is_cuda, is_meta
from torchcreator._recorder.dispatch_mode import Recorder
from torchcreator._recorder.other_memory import set_data
from torchcreator._recorder.pytree import mapped
from torchcreator._recorder.whole import WHOLE, whole
from torchcreator._torch.dispatch import no_dispatch_modes, no_function_modes
from torchcreator._torch.tensors import storage_key, typed_storage, with_index

Function = Callable[..., Any]
_META = torch.device("meta")
_STORAGES = (torch.UntypedStorage, torch.TypedStorage)


def naming_device(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Pass on a call that names a device, noting whether the constructor itself means meta."""
    before = recorder.honest
    recorder.honest = any(_is_meta(value) for value in (*args, *kwargs.values()))
    try:
        return func(*args, **kwargs)
    finally:
        recorder.honest = before


def from_data(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Replay recorded tensors inside of lists: torch reads those in C++, unseen."""
    if args and isinstance(args[0], _STORAGES):  # a file's, say: the tensor is to look at it
        with no_dispatch_modes():
            return func(*args, **kwargs)
    if args and isinstance(args[0], (list, tuple)):
        args = mapped(args, recorder.log.real)
    return naming_device(recorder, func, args, kwargs)


def _is_meta(value: object) -> bool:
    return (
        value == "meta"
        if isinstance(value, str)
        else type(value) is torch.device and value == _META
    )


Answer = Callable[[Recorder, Function, tuple[Any, ...], dict[str, Any]], Any]


def _device(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> torch.device:
    return recorder.log.device_of(args[0])


def _index(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> int:
    index = recorder.log.device_of(args[0]).index
    return -1 if index is None else index


def _is_on(kind: str) -> Answer:
    return lambda recorder, func, args, kwargs: recorder.log.device_of(args[0]).type == kind


def _type(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Answer, or convert as, what torch calls a type: a dtype and a kind of device."""
    words = dict(zip(("dtype", "non_blocking"), args[1:], strict=False)) | kwargs
    kind = words.pop("dtype", None)
    if kind is None:
        on = recorder.log.device_of(args[0]).type
        with no_function_modes():
            name: str = func(args[0])
        return name.replace(".meta.", "." if on == "cpu" else f".{on}.")
    if isinstance(kind, torch.dtype):
        return func(args[0], kind, **words)
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    *_, on, name = f"cpu.{name.removeprefix('torch.')}".split(".")
    dtype = getattr(torch, name).dtype if hasattr(torch, name) else None
    if dtype is None:
        return func(args[0], kind, **words)  # torch's error
    return _to(recorder, torch.Tensor.to, (args[0], torch.device(on), dtype), words)


def _type_as(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    tensor, other = args if len(args) > 1 else (args[0], kwargs["other"])
    return _to(recorder, torch.Tensor.to, (tensor, other), {})


def _shown(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Return a text with the numbers in it."""
    tensor, *rest = args
    with no_dispatch_modes(), no_function_modes():
        value = recorder.log.value(tensor)
        if isinstance(tensor, nn.Parameter):
            value = nn.Parameter(value, tensor.requires_grad)
        elif tensor.requires_grad:
            value.requires_grad_()
        return func(value, *rest, **kwargs)


def _read(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Replay first. An array is read-only: a write through it could not be seen."""
    with no_dispatch_modes():
        result = func(recorder.log.value(args[0]), *args[1:], **kwargs)
        if hasattr(result, "setflags"):
            result.setflags(write=False)
        return result


def _new(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> torch.Tensor:
    """Do what the legacy `Tensor.new` does, on the device that it would use."""
    like, *rest = args
    device = kwargs.get("device") or recorder.log.device_of(like)
    if rest and not all(isinstance(length, int) for length in rest):
        if not isinstance(rest[0], torch.Size):
            return torch.tensor(rest[0], dtype=like.dtype, device=device)
        rest = list(rest[0])
    return torch.empty(rest or 0, dtype=like.dtype, device=device)


def _new_tensor(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> torch.Tensor:
    like, data = args if len(args) > 1 else (args[0], kwargs["data"])
    device = kwargs.get("device") or recorder.log.device_of(like)
    options = {"requires_grad": kwargs.get("requires_grad", False), "device": device}
    return torch.tensor(data, dtype=kwargs.get("dtype") or like.dtype, **options)


def _to(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Convert without a copy where the tensor is already on the device that it is to be on."""
    tensor, *rest = args
    if rest and isinstance(rest[0], torch.Tensor):
        rest[:1] = [recorder.log.device_of(rest[0]), rest[0].dtype]
    place = next((i for i, value in enumerate(rest) if _names_device(value)), None)
    asked = kwargs.get("device") if place is None else rest[place]
    if asked is not None and _is_meta(asked):
        with no_dispatch_modes():
            return recorder.log.keep_on_meta(func(torch.empty_like(tensor), *rest, **kwargs))
    if asked is None or with_index(torch.device(asked)) != recorder.log.device_of(tensor):
        return func(tensor, *rest, **kwargs)
    if place is not None:
        del rest[place]
    kwargs = {word: value for word, value in kwargs.items() if word != "device"}
    rest = [value for value in rest if value is not None]
    if not any(isinstance(value, torch.dtype) for value in rest) and not kwargs.get("dtype"):
        kwargs.pop("dtype", None)
        rest.insert(0, tensor.dtype)
    return func(tensor, *rest, **kwargs)


def _names_device(value: object) -> bool:
    return isinstance(value, (str, torch.device)) or type(value) is int


def _to_kind(kind: str) -> Answer:
    """Answer for ``tensor.cpu(...)`` or ``tensor.cuda(device, non_blocking, ...)``."""

    def to_kind(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
        tensor, *rest = args
        words = {**dict(zip(("device", "non_blocking"), rest, strict=False)), **kwargs}
        asked = words.pop("device", None)
        place = torch.device(kind, asked) if type(asked) is int else asked or kind
        return _to(recorder, torch.Tensor.to, (tensor, place), words)

    return to_kind


def deepcopy(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> torch.Tensor:
    """Copy a tensor with its storage, which the copies of its other views will share.

    On meta, torch copies each view for itself.
    """
    tensor, memo = args
    if (
        type(tensor) is not torch.Tensor
        or not tensor.is_leaf
        or tensor.is_conj()
        or tensor.is_neg()
    ):
        copied: torch.Tensor = func(tensor, memo)
        return copied
    if id(tensor) in memo:
        found: torch.Tensor = memo[id(tensor)]
        return found
    storages = memo.setdefault("torchcreator", {})
    with torch.no_grad():
        key = storage_key(tensor)
        if key not in storages:
            whole = torch.empty(0, dtype=torch.uint8, device=tensor.device)
            storages[key] = whole.set_(tensor.untyped_storage()).clone().untyped_storage()
        made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        made.set_(storages[key], tensor.storage_offset(), tensor.size(), tensor.stride())
    made.requires_grad_(tensor.requires_grad)
    if tensor.grad is not None:
        made.grad = copy.deepcopy(tensor.grad, memo)
    made.__dict__.update(copy.deepcopy(tensor.__dict__, memo))
    memo[id(tensor)] = made
    return made


def _escape(what: str) -> Answer:
    def escape(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> None:
        recorder.log.escape(f"Tensor.{what}", args[0])

    return escape


def _attribute(name: str) -> Function:
    read: Function = getattr(torch.Tensor, name).__get__
    return read


_T = torch.Tensor
# They arrive as fresh method wrappers, equal but never identical: a dict compares them right.
ANSWERS: dict[Function, Answer] = {
    _attribute("device"): _device,
    _attribute("is_meta"): is_meta,
    _attribute("is_cpu"): _is_on("cpu"),
    _attribute("is_cuda"): is_cuda,
    _attribute("is_xpu"): _is_on("xpu"),
    _attribute("is_mps"): _is_on("mps"),
    _T.get_device: _index,
    _T.type: _type,
    _T.type_as: _type_as,
    _T.__format__: _shown,
    _T.__repr__: _shown,
    _T.is_shared: _is_on("cuda"),
    _T.tolist: _read,
    _T.numpy: _read,
    _T.__array__: _read,
    _T.__dlpack_device__: _read,
    _T.new: _new,
    _T.new_tensor: _new_tensor,
    _T.to: _to,
    _T.cpu: _to_kind("cpu"),
    _T.cuda: _to_kind("cuda"),
    typed_storage: _escape("_typed_storage"),
    getattr(_T.data, "__set__"): set_data,  # noqa: B009 - mypy sees the tensor, not its descriptor
    _T.__deepcopy__: deepcopy,
    **dict.fromkeys(WHOLE, whole),
    torch.tensor: from_data,
    torch.as_tensor: from_data,
    torch.asarray: from_data,
    **{
        getattr(_T, name): _escape(name)
        for name in [
            "data_ptr",
            "untyped_storage",
            "storage",
            "share_memory_",
            "pin_memory",
            "apply_",
            "map_",
            "__reduce_ex__",
            "__dlpack__",
        ]
    },
}
ALIKE: frozenset[Function] = frozenset(
    {
        *(_T.dim, _T.ndimension, _T.size, _T.numel, _T.is_floating_point),
        *map(_attribute, ("shape", "ndim", "dtype", "requires_grad", "is_leaf", "grad_fn")),
    }
)
"""What constructors ask most, and what a tensor on meta answers as any other does."""
UNASKED: frozenset[Answer] = frozenset({from_data, whole})
"""The answers for functions whose recorded tensors may be anywhere in their arguments."""
DEEPCOPY: Answer = deepcopy
