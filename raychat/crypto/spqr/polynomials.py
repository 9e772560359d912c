"""Polynomials of ML-KEM: Z_q[X] / (X^256 + 1) with q = 3329, as rows of 256 numbers.

Specification: FIPS 203, sections 4.2.1 (conversions and compression), 4.2.2 (sampling) and 4.3
(number-theoretic transform). An array may have any dimensions before the last, so that one call
does the work of all rows of a vector or matrix.

The transform evaluates the even and the odd coefficients, as two polynomials of degree below
128, at the odd powers of zeta: both are multiplied by one 128 x 128 matrix. In floating point,
since only that is fast, and exactly, since no sum exceeds 128 * q^2 < 2^53.

No step branches on a number or looks one up in a table, and compression does not divide. What
remains, the time the processor takes for a remainder or a product, is not ours to choose. See
`kem` for what that means.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import count
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.int64]

Q: Final = 3329
SIZE: Final = 256

_HALF: Final = SIZE // 2
_ZETA: Final = 17
_SHAKE_BLOCK: Final = 168
# For `width` bits: factor and shift that divide by q as equation 4.7 rounds (Compress).
_RECIPROCAL: Final = {10: (1_290_167, 32), 4: (80_635, 28)}


def transform(polynomials: Numbers) -> Numbers:
    """The number-theoretic transform (algorithm 9)."""
    return _halves_times(_matrices()[0], polynomials)


def restore(transformed: Numbers) -> Numbers:
    """The inverse transform (algorithm 10)."""
    return _halves_times(_matrices()[1], transformed)


def inner_product(left: Numbers, right: Numbers) -> Numbers:
    """The sum of the products of transformed polynomials, over the last dimension but one
    (algorithms 11 and 12)."""
    a, b, x, y = left[..., ::2], left[..., 1::2], right[..., ::2], right[..., 1::2]
    product = np.empty((*left.shape[:-2], SIZE), np.int64)
    product[..., ::2] = (a * x + b * (y * _odd_powers() % Q)).sum(axis=-2) % Q
    product[..., 1::2] = (a * y + b * x).sum(axis=-2) % Q
    return product


def sample_uniform(seeds: list[bytes]) -> Numbers:
    """Transformed polynomials, one drawn from SHAKE128 of each seed (algorithm 7)."""
    for blocks in count(3):
        size = blocks * _SHAKE_BLOCK
        data = b"".join([hashlib.shake_128(seed).digest(size) for seed in seeds])
        numbers = _unpacked(data).reshape(len(seeds), -1)
        accepted = [row[small] for row, small in zip(numbers, numbers < Q, strict=True)]
        if min(map(len, accepted)) >= SIZE:
            break
    return np.array([row[:SIZE] for row in accepted], np.int64)


def sample_small(seeds: list[bytes]) -> Numbers:
    """Polynomials of coefficients -2 to 2, one drawn from SHAKE256 of each seed (algorithm 8)."""
    data = b"".join([hashlib.shake_256(seed).digest(SIZE // 2) for seed in seeds])
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    a, b, c, d = bits.reshape(len(seeds), SIZE, 4).astype(np.int64).transpose(2, 0, 1)
    return a + b - c - d


def unpack(data: bytes) -> Numbers:
    """The numbers of 12 bits that are packed in `data` (ByteDecode, algorithm 6)."""
    return _unpacked(data).astype(np.int64)


def message(bits: bytes) -> Numbers:
    """256 bits as coefficients 0 and q / 2 (Decompress of 1 bit)."""
    return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little") * np.int64((Q + 1) // 2)


def compress(polynomials: Numbers, width: int) -> bytes:
    """Reduced numbers, rounded to `width` bits (10 or 4) and packed (algorithm 5)."""
    factor, shift = _RECIPROCAL[width]
    rounded = ((polynomials << width) + (Q + 1) // 2) * factor >> shift
    bits = rounded[..., np.newaxis] >> np.arange(width) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _unpacked(data: bytes) -> npt.NDArray[np.uint16]:
    low, middle, high = np.frombuffer(data, np.uint8).astype(np.uint16).reshape(-1, 3).T
    numbers = np.empty(2 * len(low), np.uint16)
    numbers[::2] = low | (middle & 15) << 8
    numbers[1::2] = middle >> 4 | high << 4
    return numbers


def _halves_times(matrix: npt.NDArray[np.float64], polynomials: Numbers) -> Numbers:
    product = np.empty(polynomials.shape, np.int64)
    product[..., ::2] = polynomials[..., ::2] @ matrix % Q
    product[..., 1::2] = polynomials[..., 1::2] @ matrix % Q
    return product


@cache
def _odd_powers() -> Numbers:
    """zeta^(2 r(i) + 1), where r reverses the 7 bits of i."""
    exponents = [2 * int(f"{i:07b}"[::-1], 2) + 1 for i in range(_HALF)]
    return np.array([pow(_ZETA, exponent, Q) for exponent in exponents])


@cache
def _matrices() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What coefficients are multiplied by from the right, and its inverse."""
    roots = [int(root) for root in _odd_powers()]
    scale = pow(_HALF, -1, Q)
    powers = [[pow(root, power, Q) for root in roots] for power in range(_HALF)]
    inverse = [[pow(root, -power, Q) * scale % Q for power in range(_HALF)] for root in roots]
    return np.array(powers, np.float64), np.array(inverse, np.float64)
