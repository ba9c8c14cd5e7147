"""Operations that give each element of a result, bit for bit, whatever else is computed with it.

That an operation is pointwise is not enough: torch's kernels compute the bulk in vectors and the
rest one by one, and both agree only where results are rounded correctly: those of `pow` and
`sigmoid` are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torchcreator._recorder.pytree import argument
from torchcreator._recorder.rng_outputs import form_of, name_of
from torchcreator._recorder.tape import Op, Ref

ZEROS_AND_ONES = frozenset(
    {"zeros", "ones", "zeros_like", "ones_like", "new_zeros", "new_ones"},
)
FULL = frozenset({"full", "full_like", "new_full"})
_COPIES = frozenset({"copy_", "clone", "_to_copy", "detach", "fill_", "zero_"})
_ROUNDED = [
    *("abs", "add", "ceil", "clamp", "clamp_max", "clamp_min", "div", "eq", "floor", "ge", "gt"),
    *("le", "lt", "masked_fill", "maximum", "minimum", "mul", "ne", "neg", "round", "sign"),
    *("sqrt", "sub", "trunc"),
]
_ROUNDED_CORRECTLY = frozenset({*_ROUNDED, *(f"{name}_" for name in _ROUNDED), "where"})
_SCALED = frozenset({"add", "add_", "sub", "sub_"})


def is_elementwise(op: Op, size: Sequence[int]) -> bool:
    """Return whether a part of an operation's result can be computed from parts of its operands.

    Args:
        op: The operation.
        size: The size of its result.
    """
    name = name_of(op)
    if name in ZEROS_AND_ONES or name in FULL or op.traits.empty:
        return True
    operands = list(_operands(op))
    if name not in _COPIES:
        if name not in _ROUNDED_CORRECTLY or any(form.dtype.is_complex for form in operands):
            return False
        if name in _SCALED and argument(op.args, op.kwargs, "alpha") not in (None, 1):
            return False
    return all(_broadcasts(form.size, size) for form in operands)


def filled_with(op: Op) -> float | None:
    """Return the number that a factory makes a tensor of, None if the operation is none."""
    name = name_of(op)
    if name in FULL:
        number: float = op.args[1] if len(op.args) > 1 else op.kwargs["fill_value"]
        return number
    return float("ones" in name) if name in ZEROS_AND_ONES else None


def written(op: Op, storage: int) -> Ref | None:
    """Return the tensor by which an operation writes to a storage, None if there are several."""
    places: list[Any] = [argument(op.args, op.kwargs, place) for place in op.traits.written]
    refs = [ref for ref in (*op.outputs, *places) if isinstance(ref, Ref)]
    found = [ref for ref in refs if ref.storage == storage]
    return found[0] if len(found) == 1 else None


def _operands(op: Op) -> Iterator[Ref]:
    return (form for value in (*op.args, *op.kwargs.values()) if (form := form_of(value)))


def _broadcasts(own: Sequence[int], size: Sequence[int]) -> bool:
    pairs = zip(reversed(own), reversed(size), strict=False)
    return len(own) <= len(size) and all(n in (1, length) for n, length in pairs)
