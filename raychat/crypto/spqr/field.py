"""Arithmetic in GF(2^16), as much as the erasure code needs.

An element is a polynomial over GF(2) below degree 16, written as the 16-bit number of its
coefficients; products are reduced by x^16 + x^12 + x^3 + x + 1 (0x1100B), of which x is a
primitive element. Adding is XOR, multiplying adds logarithms. Whole arrays are looked up at
once. All of it is public on the wire, so nothing needs to be constant-time.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Elements: TypeAlias = npt.NDArray[np.int64]
"""Also exponents of x, where it says so."""

_NONZERO: Final = 0xFFFF
"""Number of elements other than 0."""
_REDUCTION: Final = 0x1100B


def multiply(left: int, right: int) -> int:
    logarithms, powers = _tables()
    return int(powers[logarithms[left] + logarithms[right]])


def interpolated(places: Elements, values: Elements, wanted: Elements) -> Elements:
    """The values of polynomials at the places `wanted`, by Lagrange's formula.

    Row i of `values` holds the value of each polynomial at places[i]. The polynomials have a
    degree below len(places); places are distinct, and no wanted one is among them.
    """
    logarithms, powers = _tables()
    distances = logarithms[wanted[:, np.newaxis] ^ places]
    weights = distances.sum(axis=1, keepdims=True) - distances - _divisors(places.tobytes())
    terms = (weights % _NONZERO)[:, :, np.newaxis] + logarithms[values]
    result: Elements = np.bitwise_xor.reduce(powers[terms], axis=1)
    return result


@lru_cache(maxsize=8)
def _divisors(places: bytes) -> Elements:
    """For each place the logarithm of the product of its distances to the others."""
    row = np.frombuffer(places, np.int64)
    gaps = _tables()[0][row[:, np.newaxis] ^ row]
    np.fill_diagonal(gaps, 0)
    divisors: Elements = gaps.sum(axis=1)
    return divisors


@cache
def _tables() -> tuple[Elements, Elements]:
    """Logarithms to the base x, and powers of x.

    0 has no logarithm; it is given one so large that all sums with it find the power 0.
    """
    powers = []
    element = 1
    for _ in range(_NONZERO):
        powers.append(element)
        element <<= 1
        if element > _NONZERO:
            element ^= _REDUCTION
    logarithms = np.full(_NONZERO + 1, 2 * _NONZERO)
    logarithms[powers] = np.arange(_NONZERO)
    # Two logarithms add up to less than two rounds, or to at most 4 with a zero.
    return logarithms, np.array(powers * 2 + [0] * (2 * _NONZERO + 1))
