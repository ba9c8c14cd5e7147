"""Powers of t modulo the characteristic polynomial of the Mersenne Twister.

A polynomial over GF(2) is an int: bit i is the coefficient of t^i, and addition is xor.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")

DEGREE = 19937
TWIST = 0x9908B0DF
"""What the twist adds to a word whose lowest bit is set (Matsumoto and Nishimura, 1998)."""

FREE_BITS = 14
"""An exponent of so many bits needs no squaring: it is smaller than the degree."""

# Reading the recurrence for single bits gives p as a Horner scheme in x = t^623 + t^396:
# p = (...((x + a_0) x + a_1) x + ... + a_30) (t^624 + t^397) + a_31, with the bits a_i of TWIST.
# Where bits of it are zero, several factors x are one: x^2 = t^1246 + t^792, as 2 = 0 here.
_ONES = [bit for bit in range(32) if TWIST >> bit & 1]
_GAPS = [one - before for before, one in zip([-1, *_ONES], _ONES, strict=False)]
_FACTORS = [[1 << power for power in range(3) if gap >> power & 1] for gap in _GAPS]


class Recent(Generic[_Value]):
    """The results that were last asked for, by a number; may be used from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[int, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: int) -> bool:
        return key in self._found

    def get(self, key: int, make: Callable[[int], _Value]) -> _Value:
        """Return what ``make(key)`` returned, calling it if that is not here any more."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        value = make(key)  # outside of the lock: two threads may both do it, to the same end
        with self._lock:
            self._found[key] = value
            while len(self._found) > self._size:
                self._found.popitem(last=False)
        return value


def power(exponent: int) -> int:
    """Return t^exponent modulo p."""
    squarings = max(0, exponent.bit_length() - FREE_BITS)
    result = 1 << (exponent >> squarings)
    for bit in reversed(range(squarings)):
        result = remainder(_square(result) << (exponent >> bit & 1))
    return result


def remainder(polynomial: int) -> int:
    """Return a polynomial of less than twice the degree modulo p.

    The quotient is the high part divided by 1 + v, where p = t^19937 (1 + v) and v has negative
    exponents only: multiplied by (1 + v) (1 + v^2) (1 + v^4) ..., until v^k has nothing left that
    matters. The k-th factor is p with its exponents doubled k times, and soon sparse.
    """
    quotient = polynomial >> DEGREE
    for doublings in range(_DENSE):
        quotient = _times_high(quotient, doublings)
    for distances in _SPARSE:
        product = quotient
        for distance in distances:
            product ^= quotient >> distance
        quotient = product
    return (polynomial ^ _times(quotient)) & _MASK


def _times(polynomial: int) -> int:
    """Return ``polynomial * p``."""
    product = polynomial
    for factors in _FACTORS[:-1]:
        for n in factors:
            product = (product << 623 * n) ^ (product << 396 * n)
        product ^= polynomial
    for n in _FACTORS[-1]:
        product = (product << 623 * n) ^ (product << 396 * n)
    return (product << 1) ^ polynomial  # the last factor is t x


def _times_high(polynomial: int, doublings: int) -> int:
    """Return ``polynomial * (1 + v)^(2^doublings)`` without what has negative exponents."""
    product = polynomial
    for one, factors in zip(_ONES, _FACTORS, strict=True):
        for n in factors:
            product ^= product >> ((623 - 396) * n << doublings)
        product ^= polynomial >> (623 * (one + 1) + one // 31 << doublings)
    return product


_MASK = (1 << DEGREE) - 1
_DENSE = 2  # so many factors are multiplied by faster by the scheme than term by term
_TERMS = [n for n, digit in enumerate(reversed(f"{_times(1):b}")) if digit == "1"]
_SPARSE = [
    [distance for term in _TERMS[:-1] if (distance := DEGREE - term << doublings) < DEGREE]
    for doublings in range(_DENSE, 6)
]


def _square(polynomial: int) -> int:
    """Return a polynomial's square: its bits with a zero between each two."""
    packed = polynomial.to_bytes(polynomial.bit_length() // 8 + 1, "little")
    spread = bytearray(2 * len(packed))
    spread[::2] = packed.translate(_SPREAD_LOW)
    spread[1::2] = packed.translate(_SPREAD_HIGH)
    return int.from_bytes(spread, "little")


_SPREAD = [sum((half >> bit & 1) << 2 * bit for bit in range(4)) for half in range(16)]
_SPREAD_LOW = bytes(_SPREAD[byte & 15] for byte in range(256))
_SPREAD_HIGH = bytes(_SPREAD[byte >> 4] for byte in range(256))
