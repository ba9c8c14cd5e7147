"""The disguise: recorded tensors, which are on meta, look as if they were where they will be.

A constructor that can tell that it is being recorded may behave otherwise: `torch.nn.init` skips
`trunc_normal_` and others on meta, some libraries skip all of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from torchcreator._recorder.asked_by_torch import is_cuda, is_meta
from torchcreator._recorder.dispatch_mode import Recorder
from torchcreator._recorder.fast_paths import SHORTCUTS, passable
from torchcreator._recorder.live_tensors import Handed
from torchcreator._recorder.pytree import mapped
from torchcreator._torch.dispatch import no_dispatch_modes, no_function_modes
from torchcreator._torch.tensors import storage_key, typed_storage, with_index

Function = Callable[..., Any]
_META = torch.device("meta")


class Disguise(TorchFunctionMode):
    """Answers for recorded tensors where torch would say "meta".

    Args:
        recorder: Logs what is called.

    Attributes:
        handed: The tensors that were returned to the constructor.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.handed = Handed()
        self._recorder = recorder

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer a question about a recorded tensor, or pass the call on."""
        result = self._answer(func, args, kwargs or {})
        self.handed.note(result)
        return result

    def _answer(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shortcut = SHORTCUTS.get(func)
        if shortcut is not None and passable():
            result = shortcut(self._recorder, args, kwargs)
            if result is not NotImplemented:
                return result
        kind = _KINDS.get(func)
        if kind is None and (not kwargs or kwargs.get("device") is None):  # nearly always
            return func(*args, **kwargs)
        return self._special(kind, func, args, kwargs)

    def _special(
        self, kind: Answer | None, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if kind is _from_data or (kind and any(self._is_recorded(value) for value in args[:2])):
            return kind(self._recorder, func, args, kwargs)
        if kind is _deepcopy:
            with no_dispatch_modes():  # a real tensor: its copy is real
                return func(*args, **kwargs)
        return _naming_device(self._recorder, func, args, kwargs)

    def _is_recorded(self, value: object) -> bool:
        if not isinstance(value, torch.Tensor):
            return False
        with no_function_modes():
            return self._recorder.log.knows(value)


def _naming_device(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Pass on a call that names a device, noting whether the constructor itself means meta."""
    before = recorder.honest
    recorder.honest = any(_is_meta(value) for value in (*args, *kwargs.values()))
    try:
        return func(*args, **kwargs)
    finally:
        recorder.honest = before


def _from_data(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> Any:
    """Replay recorded tensors inside of lists: torch reads those in C++, unseen."""
    if args and isinstance(args[0], (list, tuple)):
        args = mapped(args, recorder.log.real)
    return _naming_device(recorder, func, args, kwargs)


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


def _set_data(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> None:
    """Give a tensor the memory of another one, where one of them is recorded and one is real."""
    tensor, value = args
    with no_function_modes():
        if isinstance(value, torch.Tensor) and value.is_meta is not tensor.is_meta:
            value = recorder.log.value(value) if value.is_meta else recorder.log.constant(value)
        func(tensor, value)


def _deepcopy(recorder: Recorder, func: Function, args: Any, kwargs: Any) -> torch.Tensor:
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
        recorder.log.escape(f"Tensor.{what}")

    return escape


def _attribute(name: str) -> Function:
    read: Function = getattr(torch.Tensor, name).__get__
    return read


_T = torch.Tensor
# They arrive as fresh method wrappers, equal but never identical: a dict compares them right.
_KINDS: dict[Function, Answer] = {
    _attribute("device"): _device,
    _attribute("is_meta"): is_meta,
    _attribute("is_cpu"): _is_on("cpu"),
    _attribute("is_cuda"): is_cuda,
    _attribute("is_xpu"): _is_on("xpu"),
    _attribute("is_mps"): _is_on("mps"),
    _T.get_device: _index,
    _T.tolist: _read,
    _T.numpy: _read,
    _T.__array__: _read,
    _T.new: _new,
    _T.new_tensor: _new_tensor,
    _T.to: _to,
    _T.cpu: _to_kind("cpu"),
    _T.cuda: _to_kind("cuda"),
    typed_storage: _escape("_typed_storage"),
    getattr(_T.data, "__set__"): _set_data,  # noqa: B009 - mypy sees the tensor, not its descriptor
    _T.__deepcopy__: _deepcopy,
    torch.tensor: _from_data,
    torch.as_tensor: _from_data,
    torch.asarray: _from_data,
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
