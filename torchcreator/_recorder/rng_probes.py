"""Counts of `rng_outputs`, each tried on this torch before it is relied on."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.rng_jump import after, as_written, place_of
from torchcreator._recorder.rng_outputs import READ_ON, draw_of, form_of, is_contiguous, name_of
from torchcreator._recorder.tape import Op, Ref

Kind = tuple[object, ...]

_CPU = torch.device("cpu")
_PLACING = frozenset({"memory_format", "pin_memory"})
_tried: dict[Kind, bool] = {}
_told: set[str] = set()


class UnknownDrawWarning(UserWarning):
    """A random operation takes other random numbers on this torch than the version it was read on.

    Draws that nobody needs are then made again instead of skipped: slower, never wrong.
    """


def known_draw(op: Op) -> Draw | None:
    """Return what an operation draws on the CPU, or None where that is not known for certain.

    The first of each kind in a process is tried: a small one is run on a generator of its own.

    Warns:
        UnknownDrawWarning: It took something else, and this torch is not older than the one that
            was read, where that is no news. Once for each operation.
    """
    draw = draw_of(op)
    if draw is None or op.traits.seeded is None:
        return None
    kind = _kind(op, draw)
    tried = _tried.get(kind)
    if tried is None:
        try:
            tried = _tried[kind] = _agrees(op, draw)
        except Exception:  # it fails by itself, too: replaying it says how
            return None
        if not tried:
            tell(name_of(op))
    return draw if tried else None


def _kind(op: Op, draw: Draw) -> Kind:
    """Return what operations must have in common for one to speak for the others."""
    forms = filter(None, map(form_of, (*op.args, *op.outputs)))
    tensors = tuple([(form.dtype, is_contiguous(form)) for form in forms])
    small, tail = draw.elements < 16, draw.elements % 16 > 0
    span = 0
    if draw.fill is torch.Tensor.random_ and draw.numbers:  # from some power of 2 on it takes two
        low, high = map(int, draw.numbers)
        span = (high - low).bit_length()
    return name_of(op), tensors, small, tail, span, draw.serial > 0, draw.each, draw.fill


def _agrees(op: Op, draw: Draw) -> bool:
    """Return whether a small draw takes what its rule says, and draws what `fill` does."""
    op = _of_shape(op, (3, 3) if draw.elements < 16 else (5, 11) if draw.elements % 16 else (6, 8))
    rule = draw_of(op)
    assert rule is not None, op.name  # its caller takes it for a failure
    with as_written(), torch.no_grad():
        generator = torch.Generator(_CPU)
        generator.manual_seed(5489)
        runs = 2 if rule.serial else 1  # the second begins where the first has left a value
        return all(_is_right(op, rule, generator) for _ in range(runs))


def _is_right(op: Op, rule: Draw, generator: torch.Generator) -> bool:
    """Run a draw on a generator, and return whether the rule says what it does."""
    before = generator.get_state()
    args = [_real(value) for value in op.args]
    kwargs = {word: value for word, value in op.kwargs.items() if word not in _PLACING}
    seeded: Any = op.traits.seeded
    drawn = seeded(*args, **{**kwargs, "generator": generator})
    state = generator.get_state()
    outputs, cached = rule.taken(cached=place_of(before).cached)
    if place_of(state) != place_of(after(before, outputs))._replace(cached=cached):
        return False
    if rule.fill is None:
        return True
    generator.set_state(before)
    target = _real(op.args[0] if op.traits.fills else op.outputs[0])
    again = rule.fill(target, *rule.numbers, generator=generator)
    return torch.equal(again, drawn) and torch.equal(generator.get_state(), state)


def _of_shape(op: Op, shape: tuple[int, int]) -> Op:
    """Return an operation like ``op`` on tensors of another shape, laid out as its own are."""
    name, args = name_of(op), list(op.args)
    result = shape
    if name == "randperm":
        args[0] = shape[0] * shape[1]
    elif name == "multinomial":
        args[1] = min(args[1], 2)
        result = shape[0], args[1]
    elif name.endswith("_like"):
        args[0] = op.outputs[0]  # laid out as the result is, whatever it was like
    args = [_shaped(value, shape) for value in args]
    return op._replace(args=tuple(args), outputs=tuple(_shaped(ref, result) for ref in op.outputs))


def _shaped(value: Any, shape: tuple[int, int]) -> Any:
    """Return a tensor as a snapshot in another shape, and that shape where there is a size."""
    form = form_of(value)
    if form is None:
        return list(shape) if isinstance(value, (list, tuple)) else value
    stride = (shape[1], 1) if is_contiguous(form) else (1, shape[0])
    return form._replace(size=torch.Size(shape), stride=stride, offset=0)


def _real(value: Any) -> Any:
    """Return a tensor for a snapshot: of chances and weights, where it is read."""
    if not isinstance(value, Ref):
        return value
    tensor = torch.empty_strided(value.size, value.stride, dtype=value.dtype, device=_CPU)
    return tensor.fill_(0.5)


def tell(name: str) -> None:
    """Warn, once for each operation, unless this torch is older than the one that was read."""
    if name in _told or tuple(map(int, torch.__version__.split(".")[:2])) < READ_ON:
        return
    _told.add(name)
    message = (
        f"{name.removeprefix('init.')} draws otherwise on torch {torch.__version__} than where "
        "its count was read.\n"
        "What it draws in vain while a model is built is drawn again instead of skipped: the "
        "values are right, and take longer.\n"
        "Report this message, please; nothing else is to be done."
    )
    warnings.warn(message, UnknownDrawWarning, stacklevel=2)
