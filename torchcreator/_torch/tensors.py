"""What a tensor object looks at, and lists of tensors in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

typed_storage = torch.Tensor._typed_storage
"""The method by which torch reaches the storage behind ``Tensor.storage``, which warns."""


def can_share_data(parameter: torch.Tensor, data: torch.Tensor) -> bool:
    """Return whether ``parameter.data = data`` is possible (not from CPU to meta, say)."""
    return bool(torch._has_compatible_shallow_copy_type(parameter, data))


def version(tensor: torch.Tensor) -> int:
    """Return a number that rises with every in-place write to ``tensor``."""
    return tensor._version


def storage_key(tensor: torch.Tensor) -> int:
    """Return the address of the tensor's storage: its identity while something keeps it alive."""
    key: int = torch._C._storage_id(tensor)  # type: ignore[attr-defined]
    return key


def looks_at(tensor: torch.Tensor, storage: torch.UntypedStorage) -> bool:
    """Return whether a tensor looks at that storage."""
    return bool(tensor.untyped_storage()._cdata == storage._cdata)


def weak_storage(tensor: torch.Tensor) -> tuple[int, object]:
    """Return the storage's key, and what reserves its address, but not its memory."""
    reference = StorageWeakRef(tensor.untyped_storage())
    return int(reference.cdata), reference


def is_gone(reference: object) -> bool:
    """Return whether the storage of a `weak_storage` is no more."""
    assert isinstance(reference, StorageWeakRef)
    return bool(reference.expired())


def viewers(storage: torch.UntypedStorage) -> int | None:
    """Return how many tensors look at a storage, or None where torch does not say.

    Besides them there is one reference to it, that of the storage object.
    """
    if _use_count is None:
        return None
    return int(_use_count(storage._cdata)) - 1


_use_count: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)


def is_own(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a storage that no other one looks at, as far as torch says."""
    if tensor.layout is not torch.strided or wraps_others(tensor) or tensor.is_inference():
        return False
    return viewers(tensor.untyped_storage()) == 1


def viewed(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the tensor that another one is a view of, which holds it; None if it is none."""
    return tensor._base


def held_in_torch(tensor: torch.Tensor) -> bool:
    """Return whether torch itself holds a tensor: as a gradient, or as what another one views."""
    return bool(tensor._use_count() > 1)  # type: ignore[attr-defined]


def exchange(first: torch.Tensor, second: torch.Tensor) -> None:
    """Exchange what two tensor objects hold; the objects keep class, attributes and identity.

    `torch.utils.swap_tensors` refuses a tensor that another one views or that has a weak
    reference; where all views of a storage are exchanged together, both are harmless.
    """
    torch._C._swap_tensor_impl(first, second)


def accumulation_hooks(tensor: torch.Tensor) -> Any:
    """Return the hooks that run when a tensor has its gradient, in the dictionary that holds them.

    The object keeps it where what is inside was exchanged, and the hooks run no more.
    """
    return tensor._post_accumulate_grad_hooks


def set_accumulation_hooks(tensor: torch.Tensor, hooks: Any) -> None:
    """Let these hooks run when a tensor has its gradient; None lets none, until the next one."""
    tensor._post_accumulate_grad_hooks = hooks


def lazy_view(tensor: torch.Tensor, *, conj: bool, neg: bool) -> torch.Tensor:
    """Return the tensor with its conjugate and negative bits set."""
    if conj:
        tensor = torch._conj(tensor)
    return torch._neg_view(tensor) if neg else tensor


def is_plain_meta(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is on meta and has a storage of its own.

    A sparse one has none, and one that wraps others (a DTensor) has none that counts.
    """
    if not tensor.is_meta or type(tensor).__torch_dispatch__ is not _PLAIN_DISPATCH:
        return False
    return bool(torch._C._has_storage(tensor))


def wraps_others(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is of a class that answers operations itself, from other tensors."""
    return type(tensor).__torch_dispatch__ is not _PLAIN_DISPATCH


def moved_shell(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the same class and form that says it is on another device, empty inside.

    Only of a class that answers operations itself: what it is made of is in its attributes.
    """
    made: torch.Tensor = torch.Tensor._make_wrapper_subclass(
        type(tensor),
        tensor.size(),
        strides=tensor.stride(),
        dtype=tensor.dtype,
        layout=tensor.layout,
        device=device,
        requires_grad=tensor.requires_grad,
    )
    return made


_PLAIN_DISPATCH = torch.Tensor.__torch_dispatch__


def same_generator(first: torch.Generator, second: torch.Generator) -> bool:
    """Return whether two objects are one generator: torch's dispatcher hands on a new object."""
    return bool(first._cdata == second._cdata)  # type: ignore[attr-defined]


def with_index(device: torch.device) -> torch.device:
    """Return the device with the index of the current one where it has none."""
    if device.type in ("cpu", "meta"):  # there is one of these, by whatever index
        return torch.device(device.type)
    index: int | None = device.index  # torch's stub says that there always is one
    if index is not None:
        return device
    return torch.device(device.type, torch.get_device_module(device).current_device())


def foreach_clamp_min_(tensors: list[torch.Tensor], bound: float) -> None:
    """Raise the elements of tensors of one dtype and device to ``bound``, in place."""
    torch._foreach_clamp_min_(tensors, bound)


def foreach_clamp_max_(tensors: list[torch.Tensor], bound: float) -> None:
    """Lower the elements of tensors of one dtype and device to ``bound``, in place."""
    torch._foreach_clamp_max_(tensors, bound)


def foreach_copy_(tensors: list[torch.Tensor], values: tuple[torch.Tensor, ...]) -> None:
    """Write each value into its tensor."""
    torch._foreach_copy_(tensors, values)


def foreach_mul_(tensors: list[torch.Tensor], factor: float) -> None:
    """Multiply the elements of every tensor, in place."""
    torch._foreach_mul_(tensors, factor)


def foreach_zero_(tensors: list[torch.Tensor]) -> None:
    """Write zeros into every tensor."""
    torch._foreach_zero_(tensors)


def flattened(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the elements of dense tensors of one dtype and device in one row."""
    flat: torch.Tensor = torch._C._nn.flatten_dense_tensors(tensors)
    return flat


def unflattened(flat: torch.Tensor, like: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return views of a row, one for each tensor, of its shape."""
    return list(torch._C._nn.unflatten_dense_tensors(flat, like))
