"""What each random operation takes of torch's CPU generator, in outputs of 32 bits.

Counts differ between versions and builds, so whoever relies on one asks `rng_probes`, which tries
it first. Before 2.13 `trunc_normal_`, normals of half precision and what MKL draws are known to
differ.

An operation that is not here, or not in all of its
forms, is not known: its count depends on the numbers drawn, or was not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from torchcreator._recorder.rng_draw import Draw
from torchcreator._recorder.tape import Op, Ref
from torchcreator._torch.dispatch import OpOverload, schema_of

READ_ON = (2, 13)
"""The version of torch that the counts were read on."""


def draw_of(op: Op) -> Draw | None:
    """Return what an operation draws on the CPU, or None where that is not known."""
    rule = _RULES.get(name_of(op))
    out = op.args[0] if op.traits.fills else next(iter(op.outputs), None)
    return rule(op, out) if rule is not None and isinstance(out, Ref) else None


def name_of(op: Op) -> str:
    """Return an operation's name among the tables' keys: ``normal_``, ``init.orthogonal_``."""
    func = op.func
    if isinstance(func, OpOverload):
        return str(schema_of(func).name).removeprefix("aten::")
    name = op.name
    return f"init.{name}" if getattr(func, "__module__", None) == nn.init.__name__ else name


def form_of(value: object) -> Ref | None:
    """Return what an argument looks like if it is a tensor: recorded, real, or blank on meta."""
    if isinstance(value, torch.Tensor):
        return Ref(-1, value.dtype, value.size(), value.stride(), 0, conj=False, neg=False)
    return value if isinstance(value, Ref) else None


def is_contiguous(ref: Ref) -> bool:
    """Return whether a snapshot's elements lie in memory one after the other."""
    expected = 1
    for length, stride in zip(reversed(ref.size), reversed(ref.stride), strict=True):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True


Rule = Callable[[Op, Ref], "Draw | None"]
_T = torch.Tensor
_REAL = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
_PART = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_HALF = frozenset({torch.bfloat16, torch.float16})
_DIGITS = {torch.float32: 24, torch.float64: 53, torch.bfloat16: 8, torch.float16: 11}
_INTEGRAL = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_NUMBER = frozenset({bool, int, float})

# Nanoseconds an element, in memory that is touched for the first time.
_UNIFORM = {torch.float32: 3.3, torch.float64: 6.5, torch.bfloat16: 4.5, torch.float16: 5.0}
_NORMAL = {torch.float32: 4.6, torch.float64: 29.0, torch.bfloat16: 6.0, torch.float16: 5.0}
_SERIAL, _INTEGER, _BERNOULLI, _LOGARITHM = 30.0, 3.5, 10.0, 22.0
_ORTHOGONAL = 20.0  # times what its normal values take


def _alike(
    ref: Ref,
    each: int,
    nanoseconds: float,
    fill: Callable[..., torch.Tensor] | None = None,
    numbers: tuple[float, ...] = (),
) -> Draw:
    """Return a draw whose numbers are drawn one after the other, and take the same."""
    n = ref.size.numel()
    step = int(fill is not None and is_contiguous(ref))
    return Draw(n, n * each, 0, n * nanoseconds, each, step, fill=fill, numbers=numbers)


def _uniform(ref: Ref, low: float, high: float) -> Draw | None:
    dtype = _PART.get(ref.dtype, ref.dtype)
    if dtype not in _REAL or not low <= high:
        return None
    parts = 1 + ref.dtype.is_complex
    each = parts * (1 + (dtype is torch.float64))
    return _alike(ref, each, parts * _UNIFORM[dtype], _T.uniform_, (low, high))


def _normal(ref: Ref, mean: float, std: float, *, contiguous: bool = False) -> Draw | None:
    dtype = _PART.get(ref.dtype, ref.dtype)
    if dtype not in _REAL or not std >= 0:
        return None
    n, parts = ref.size.numel(), 1 + ref.dtype.is_complex
    reals, numbers = n * parts, (mean, std)
    if reals < 16 or not (contiguous or is_contiguous(ref)):
        return Draw(n, 0, reals, reals * _SERIAL, fill=_T.normal_, numbers=numbers)
    tail = reals % 16  # is drawn again, with as many before it as make sixteen
    drawn = reals - tail * (dtype in _HALF) + 16 * (tail > 0)
    each = 1 + (dtype is torch.float64)
    cost, step = reals * _NORMAL[dtype], 16 // parts
    return Draw(n, drawn * each, 0, cost, each * parts, step, step, _T.normal_, numbers)


def _log_normal(ref: Ref, mean: float, std: float) -> Draw | None:
    if ref.dtype not in _REAL or not std > 0:
        return None
    n = ref.size.numel()
    return Draw(n, 0, n, n * _SERIAL, fill=_T.log_normal_, numbers=(mean, std))


def _exponential(ref: Ref, rate: float) -> Draw | None:
    known = ref.dtype in _REAL and rate > 0
    return _alike(ref, 2, _LOGARITHM, _T.exponential_, (rate,)) if known else None


def _cauchy(ref: Ref, median: float, sigma: float) -> Draw | None:
    known = ref.dtype in _REAL and sigma > 0
    return _alike(ref, 2, _LOGARITHM, _T.cauchy_, (median, sigma)) if known else None


def _geometric(ref: Ref, p: float) -> Draw | None:
    known = ref.dtype in _REAL | _INTEGRAL and 0 < p < 1
    return _alike(ref, 2, _LOGARITHM, _T.geometric_, (p,)) if known else None


def _integers(ref: Ref, low: int, high: int) -> Draw | None:
    """Return what integers from ``low`` to before ``high`` take: two outputs from 2^28 on."""
    digits = _DIGITS.get(ref.dtype)
    if digits is not None:
        least, most = -(1 << digits), 1 << digits  # beyond, torch rounds the bounds
    elif ref.dtype in _INTEGRAL:
        least, most = torch.iinfo(ref.dtype).min, torch.iinfo(ref.dtype).max
    else:
        return None
    if not least <= low < high <= most + 1:
        return None
    each = 1 + (high - low >= 1 << 28)
    return _alike(ref, each, each * _INTEGER, _T.random_, (low, high))


def _random(op: Op, ref: Ref) -> Draw | None:
    numbers = op.args[1:]
    if not {int}.issuperset(map(type, numbers)) or not op.kwargs.keys() <= {"generator"}:
        return None
    if numbers:
        return _integers(ref, *(0, *numbers)[-2:])
    if ref.dtype not in _REAL | _INTEGRAL | {torch.bool}:
        return None
    each = 1 + (ref.dtype in (torch.int64, torch.float64))
    return _alike(ref, each, each * _INTEGER, _T.random_)


def _randint(op: Op, ref: Ref) -> Draw | None:
    numbers = [value for value in op.args if type(value) is int]
    tensors = [*filter(form_of, op.args)]  # a bound, or what it is like
    if not numbers or len(tensors) > name_of(op).endswith("_like"):
        return None
    return _integers(ref, *(0, *numbers)[-2:])


def _bernoulli(op: Op, ref: Ref) -> Draw | None:
    chance = op.args[1] if len(op.args) > 1 else 0.5 if op.traits.fills else op.args[0]
    if ref.dtype not in _REAL | _INTEGRAL | {torch.bool}:
        return None
    chances = form_of(chance)
    if chances is not None:
        each = 1 + (chances.dtype is torch.float64)
        return _alike(ref, each, _BERNOULLI) if chances.dtype in _REAL else None
    known = type(chance) in _NUMBER and 0 <= chance <= 1
    return _alike(ref, 2, _BERNOULLI, _T.bernoulli_, (chance,)) if known else None


def _normal_of(op: Op, ref: Ref) -> Draw | None:
    mean, std = (*op.args[:2], op.kwargs.get("std", 1.0))[:2]
    if type(mean) in _NUMBER and type(std) in _NUMBER:
        return _normal(ref, mean, std)
    drawn = _normal(ref, 0.0, std if type(std) in _NUMBER else 1.0, contiguous=True)
    return None if drawn is None else _whole(drawn)


def _randperm(op: Op, ref: Ref) -> Draw | None:
    n = ref.size.numel()
    known = ref.dtype in _REAL | _INTEGRAL and n < 1 << 27  # far beyond, it takes two for each
    return Draw(n, max(n - 1, 0), cost=n * 2 * _INTEGER) if known else None


def _multinomial(op: Op, ref: Ref) -> Draw | None:
    weights, samples = form_of(op.args[0]), op.args[1]
    repeated = op.args[2] if len(op.args) > 2 else op.kwargs.get("replacement", False)
    if weights is None or weights.dtype not in _REAL or type(samples) is not int:
        return None
    if repeated and samples > 1:
        return _alike(ref, 2, _LOGARITHM)
    n = weights.size.numel()  # one sample, too, is where an exponential value is the greatest
    return Draw(ref.size.numel(), 2 * n, cost=n * _LOGARITHM)


def _kaiming_uniform(op: Op, ref: Ref) -> Draw | None:
    mode = op.kwargs.get("mode")
    if len(op.args) > 1 or mode not in ("fan_in", "fan_out") or len(ref.size) < 2:
        return None
    fan = ref.size[mode == "fan_in"] * ref.size[2:].numel()
    if not fan or not ref.size.numel():
        return None
    gain = nn.init.calculate_gain(op.kwargs["nonlinearity"], op.kwargs["a"])
    bound = math.sqrt(3.0) * (gain / math.sqrt(fan))  # in the order in which torch computes it
    return _uniform(ref, -bound, bound)


def _truncated_normal(ref: Ref, mean: float, std: float, low: float, high: float) -> Draw | None:
    """Return what it takes if no value can be rejected: 24 bits, or 53, reach only so far."""
    drawn = _normal(ref, mean, std) if ref.dtype in _REAL else None
    if drawn is None:
        return None
    wide = drawn.serial or ref.dtype is torch.float64
    reach = (8.6 if wide else 5.8) * std + 1e-6 * abs(mean)  # sqrt(2 * 24 * log(2)) = 5.77
    return drawn if low < mean - reach and mean + reach < high else None


def _orthogonal(op: Op, ref: Ref) -> Draw | None:
    if ref.dtype not in (torch.float32, torch.float64) or len(ref.size) < 2:
        return None
    drawn = _normal(ref, 0.0, 1.0, contiguous=True)
    return _whole(drawn)._replace(cost=drawn.cost * _ORTHOGONAL) if drawn else None


def _whole(draw: Draw) -> Draw:
    """Return a draw that is not all that its operation does."""
    return draw._replace(each=0, step=0, fill=None, numbers=())


def _by_numbers(function: Callable[..., Draw | None], **defaults: float) -> Rule:
    """Return a rule for an operation that takes only numbers after its tensor."""

    def rule(op: Op, ref: Ref) -> Draw | None:
        given = op.args[1:]
        missing = list(defaults.items())[len(given) :]
        numbers = (*given, *(op.kwargs.get(word, default) for word, default in missing))
        known = _NUMBER.issuperset(map(type, numbers))
        return function(ref, *numbers) if known else None

    return rule


_truncated = _by_numbers(_truncated_normal, mean=0.0, std=1.0, a=-2.0, b=2.0)
_RULES: dict[str, Rule] = {
    "bernoulli": _bernoulli,
    "bernoulli_": _bernoulli,
    "cauchy_": _by_numbers(_cauchy, median=0.0, sigma=1.0),
    "exponential_": _by_numbers(_exponential, lambd=1.0),
    "geometric_": _by_numbers(_geometric, p=0.0),
    "init._no_grad_trunc_normal_": _truncated,
    "init.kaiming_uniform_": _kaiming_uniform,
    "init.orthogonal_": _orthogonal,
    "init.trunc_normal_": _truncated,
    "log_normal_": _by_numbers(_log_normal, mean=1.0, std=2.0),
    "multinomial": _multinomial,
    "normal": _normal_of,
    "normal_": _by_numbers(_normal, mean=0.0, std=1.0),
    "rand": lambda op, ref: _uniform(ref, 0.0, 1.0),
    "rand_like": lambda op, ref: _uniform(ref, 0.0, 1.0),
    "randint": _randint,
    "randint_like": _randint,
    "randn": lambda op, ref: _normal(ref, 0.0, 1.0),
    "randn_like": lambda op, ref: _normal(ref, 0.0, 1.0),
    "random_": _random,
    "randperm": _randperm,
    "uniform_": _by_numbers(_uniform, **{"from": 0.0, "to": 1.0}),
}
"""What is known, by the operation's name, with any overload."""
