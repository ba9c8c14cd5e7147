"""What the recorder needs to know about an operation, read off its schema once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from torchcreator._torch.dispatch import OpOverload, overload_name, schema_of

Function = Callable[..., Any]


class Traits(NamedTuple):
    """What an operation reads, writes and makes."""

    written: frozenset[int | str] = frozenset({0})  # the arguments that it writes
    makes: bool = False  # makes a tensor on `device=`, and reads no tensor's content
    draws: bool = False
    seeded: Function | None = None  # itself, if need be in the overload that takes a generator
    fills: bool = False  # writes its first argument without reading it
    empty: bool = False  # leaves what the memory held
    moves: bool = False  # changes only which memory a tensor looks at, or how
    returns_tensors: bool = True
    takes_dtype: bool = False
    lone: bool = False  # takes no other tensor than its first argument
    unlike: bool = False  # gives tensors of another kind or layout on meta than elsewhere
    lowered: bool = False  # autocast computes it, or what it is a part of, in half precision
    relaid: Function | None = None  # makes of its results on meta, and its arguments, the CPU's


_FILLS = frozenset(
    {
        "bernoulli_",
        "cauchy_",
        "copy_",
        "exponential_",
        "fill_",
        "geometric_",
        "log_normal_",
        "normal_",
        "random_",
        "uniform_",
        "zero_",
    }
)
# These take a tensor for its shape and dtype only.
_EMPTY_LIKE = frozenset({"empty_like", "new_empty", "new_empty_strided"})
_EMPTY = _EMPTY_LIKE | {"empty", "empty_strided", "empty_permuted"}
_LIKE = _EMPTY_LIKE | {
    "full_like",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones_like",
    "rand_like",
    "randint_like",
    "randn_like",
    "zeros_like",
}
# Their schemas do not admit that they write the running mean and variance.
_UNDECLARED: dict[str, frozenset[int | str]] = {
    "native_batch_norm": frozenset({3, 4}),
    "cudnn_batch_norm": frozenset({3, 4}),
    "miopen_batch_norm": frozenset({3, 4}),
    "batch_norm_gather_stats": frozenset({3, 4}),
    "batch_norm_gather_stats_with_counts": frozenset({3, 4}),
}
_LOWERED = frozenset(
    {
        *("addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "dot", "mm", "mv", "vdot"),
        *("_convolution", "_prelu_kernel", "convolution", "linalg_vecdot", "mkldnn_rnn_layer"),
    }
)
_UNLIKE = frozenset(
    {
        "_embedding_bag_forward_only",
        "_fft_c2r",
        "_fft_r2c",
        "max_unpool2d",
        "quantize_per_channel",
        "quantize_per_tensor",
        "quantize_per_tensor_dynamic",
    }
)


def _by_columns(place: int) -> Function:
    """Return what lays one of an operation's results out by columns."""

    def relaid(out: Any, args: Any) -> Any:
        laid = torch.empty_like(out[place].mT, memory_format=torch.contiguous_format).mT
        return tuple(laid if number == place else result for number, result in enumerate(out))

    return relaid


def _without_statistics(out: Any, args: Any) -> Any:
    """Leave out what a batch normalisation keeps for its backward, where it does not train."""
    normalised, *kept = out
    return out if args[5] else (normalised, *(statistic.new_empty(0) for statistic in kept))


_RELAID: dict[str, Function] = {
    "_linalg_svd": _by_columns(2),
    "linalg_eig": _by_columns(1),
    "native_batch_norm": _without_statistics,
}
# By id, as hashing an operation is a Python call; held, as one of a library that was unloaded is
# gone, and another may get its id.
_known: dict[int, Traits] = {}
_held: list[OpOverload] = []


def traits_of(func: OpOverload) -> Traits:
    """Return the traits of an operation."""
    found = _known.get(id(func))
    if found is None:
        _held.append(func)
        found = _known[id(func)] = _read(func)
    return found


def _read(func: OpOverload) -> Traits:
    schema = schema_of(func)
    name = schema.name.partition("::")[2]
    arguments = schema.arguments
    words = {argument.name for argument in arguments}
    written: set[int | str] = set(_UNDECLARED.get(name, ()))
    for position, argument in enumerate(arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.add(argument.name if argument.kwarg_only else position)
    tensors = [n for n, argument in enumerate(arguments) if "Tensor" in str(argument.type)]
    draws = torch.Tag.nondeterministic_seeded in func.tags
    return Traits(
        written=frozenset(written),
        makes="device" in words and (name in _LIKE or not tensors),
        draws=draws,
        seeded=_generator_overload(func) if draws else None,
        fills=name in _FILLS,
        empty=name in _EMPTY,
        moves=torch.Tag.inplace_view in func.tags or name == "resize_",
        returns_tensors=any("Tensor" in str(result.type) for result in schema.returns),
        takes_dtype="dtype" in words,
        lone=tensors == [0],
        unlike=name in _UNLIKE,
        lowered=name in _LOWERED,
        relaid=_RELAID.get(name),
    )


def _generator_overload(func: OpOverload) -> Function | None:
    """Return the overload of an operation that takes a generator, or None if it has none."""
    if any(argument.name == "generator" for argument in schema_of(func).arguments):
        return func
    packet, own = func.overloadpacket, overload_name(func)
    name = "generator" if own == "default" else f"{own}_generator"
    if own.endswith("_dtype"):
        name = own.replace("_dtype", "_generator_dtype")
    overload: Function | None = getattr(packet, name) if name in packet.overloads() else None
    return overload
