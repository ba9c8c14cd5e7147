"""The arithmetic behind a jump: polynomials over GF(2), and what keeps their powers."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchcreator._recorder.rng_polynomial import DEGREE, Recent, power, remainder

EXPONENTS = st.integers(0, 1 << 44)


def product(first: int, second: int) -> int:
    """Return a product the slow way."""
    result = 0
    for place, digit in enumerate(reversed(f"{second:b}")):
        if digit == "1":
            result ^= first << place
    return result


def long_division(polynomial: int) -> int:
    """Return a remainder the slow way, from t^19937 modulo p."""
    divisor = 1 << DEGREE | power(DEGREE)
    while (excess := polynomial.bit_length() - 1 - DEGREE) >= 0:
        polynomial ^= divisor << excess
    return polynomial


def test_the_characteristic_polynomial_is_the_known_one():
    """It has 135 terms (Matsumoto and Nishimura, 1998), and t^19937 is the sum of the others."""
    terms = [n for n in range(DEGREE) if power(DEGREE) >> n & 1]
    assert len(terms) + 1 == 135
    assert terms[0] == 0
    assert max(terms) <= DEGREE - 623


@pytest.mark.parametrize("exponent", [0, 1, 2, 623, 16383, 16384, DEGREE - 1])
def test_a_small_power_is_itself(exponent):
    """Below the degree t^n modulo p is t^n."""
    assert power(exponent) == 1 << exponent


@settings(max_examples=20, deadline=None)
@given(st.integers(0, (1 << 2 * DEGREE) - 1))
def test_the_remainder_is_that_of_long_division(polynomial):
    """Multiplying by the truncated inverse gives what subtracting one multiple at a time does."""
    assert remainder(polynomial) == long_division(polynomial)


def test_the_remainder_is_that_of_long_division_at_full_length():
    """The same for dense polynomials of all lengths up to twice the degree."""
    bits = random.Random(0)
    for length in [1, DEGREE, DEGREE + 1, DEGREE + 624, 2 * DEGREE - 1, 2 * DEGREE]:
        polynomial = bits.getrandbits(length) | 1 << length - 1
        assert remainder(polynomial) == long_division(polynomial)


@settings(max_examples=20, deadline=None)
@given(EXPONENTS, EXPONENTS)
def test_powers_multiply(first, second):
    """t^a t^b = t^(a + b) modulo p."""
    assert remainder(product(power(first), power(second))) == power(first + second)


def test_recent_results_are_kept_up_to_a_number():
    """The results asked for last are kept, each made once; the others are let go."""
    made = []

    def make(key):
        made.append(key)
        return -key

    recent = Recent(2)
    assert [recent.get(key, make) for key in (1, 2, 1, 3, 1, 2)] == [-1, -2, -1, -3, -1, -2]
    assert made == [1, 2, 3, 2]
    assert 1 in recent
    assert 3 not in recent


def test_recent_results_are_shared_by_threads():
    """Threads that ask for more results than are kept all get the right ones."""
    recent = Recent(3)
    keys = [n % 7 for n in range(2000)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda key: recent.get(key, lambda n: n * n), keys)) == [
            key * key for key in keys
        ]
