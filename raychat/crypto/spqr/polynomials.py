"""Polynomials of ML-KEM: Z_q[X] / (X^256 + 1) with q = 3329, in arrays of numbers.

Specification: FIPS 203, sections 4.2.1 (conversions and compression), 4.2.2 (sampling) and 4.3
(number-theoretic transform). An array (2, n, 128) holds n polynomials: the even coefficients of
all, then the odd ones. The transform takes each half as a polynomial of degree below 128 and
evaluates it at the odd powers of zeta, which is a product with one 128 x 128 matrix.

A step comes once in some 90 messages and then finds the processor's caches cold: what it costs
is the number of different operations, not that of coefficients. So numbers are floating-point,
whose matrix product is one operation, and are reduced once, at the end. They are integers, and
exact, for with m = q - 1 the largest there can be are

    a transform of small polynomials           a = 2 * 128 * m   < 2^24, in single precision
    an inner product of three, two terms each  b = 6 * m * a
    and that transformed back                  128 * m * b       < 2^53, in double precision

No step branches on a number, looks one up in a table or divides. What remains, the time the
processor takes for a product, is not ours to choose. See `kem` for what that means.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import count
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.float64]
Single: TypeAlias = npt.NDArray[np.float32]

Q: Final = 3329
SIZE: Final = 256
RANK: Final = 3
"""Polynomials of a vector."""

_HALF: Final = SIZE // 2
_ZETA: Final = 17
_SHAKE_BLOCK: Final = 168
_OCTETS: Final = (0x55, 0x33, 0x22, 0x0F)
_TWELVE: Final = np.array([0, 4], np.uint16)


def factor(small: Numbers) -> Numbers:
    """The number-theoretic transform (algorithm 9) of a vector of small polynomials, arranged
    for `product`.

    Two transformed polynomials are multiplied as pairs a + b X and x + y X modulo X^2 - z. That
    is a x + b (z y) and a y + b x (algorithm 12): what belongs to a and b there is first here.
    """
    both = small.reshape(-1, _HALF).astype(np.float32) @ _forward()
    x, y, zy = both[:RANK, :_HALF], both[RANK:, :_HALF], both[RANK:, _HALF:]
    return np.concatenate((x, zy, y, x), dtype=np.float64).reshape(2, 2, 1, RANK, _HALF)


def product(vectors: Numbers, factor: Numbers) -> Numbers:
    """The inner products (algorithm 11) of transformed vectors with one that went through
    `factor`, transformed back (algorithm 10). They are not reduced."""
    sums: Numbers = (vectors.reshape(2, -1, RANK, _HALF) * factor).sum(axis=(1, 3))
    back: Numbers = sums.reshape(-1, _HALF) @ _inverse()
    return back.reshape(sums.shape)


def sample_uniform(seeds: list[bytes]) -> Numbers:
    """Transformed polynomials, one drawn from SHAKE128 of each seed (algorithm 7)."""
    for blocks in count(3):
        size = blocks * _SHAKE_BLOCK
        data = b"".join([hashlib.shake_128(seed).digest(size) for seed in seeds])
        numbers = _unpacked(data).reshape(len(seeds), -1)
        accepted = [row[small] for row, small in zip(numbers, numbers < Q, strict=True)]
        if min(map(len, accepted)) >= SIZE:
            break
    return _halved(np.array([row[:SIZE] for row in accepted]))


def sample_small(seeds: list[bytes]) -> Numbers:
    """Polynomials of coefficients -2 to 2, one drawn from SHAKE256 of each seed (algorithm 8).

    A coefficient is made of four bits, the first two less the last two. All are added up at
    once, as the digits of one integer, 2 more than they are so that nothing is carried.
    """
    data = b"".join([hashlib.shake_256(seed).digest(_HALF) for seed in seeds])
    size = len(data)
    bits, pairs, two, low = _masks(size)
    number = int.from_bytes(data, "little")
    sums = (number & bits) + (number >> 1 & bits)
    digits = (sums & pairs) + two - (sums >> 2 & pairs)
    halves = (digits & low).to_bytes(size, "little") + (digits >> 4 & low).to_bytes(size, "little")
    return np.subtract(np.frombuffer(halves, np.uint8), 2.0).reshape(2, -1, _HALF)


def unpack(data: bytes) -> Numbers:
    """The numbers of 12 bits that are packed in `data` (ByteDecode, algorithm 6)."""
    return _halved(_unpacked(data))


def message(bits: bytes) -> Numbers:
    """256 bits as coefficients 0 and q / 2 (Decompress of 1 bit)."""
    return _halved(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")) * ((Q + 1) / 2)


def compress(polynomials: Numbers, width: int) -> bytes:
    """Numbers rounded to `width` bits (10 or 4) and packed (Compress, and algorithm 5).

    Of any number congruent modulo q the quotient ends in the same bits. It is reduced only so
    that the quotient, which may be as near as 1 / 2q to where rounding changes, is exact enough.
    """
    near_zero = polynomials - np.rint(polynomials * (1 / Q)) * Q
    rounded = np.rint(near_zero * ((1 << width) / Q)).astype(np.dtype("<i8")) & (1 << width) - 1
    pairs = rounded[0] | rounded[1] << width
    fours = pairs[:, ::2] | pairs[:, 1::2] << 2 * width
    octets: npt.NDArray[np.uint8] = fours.view(np.uint8).reshape(-1, 8)
    return octets[:, : width // 2].tobytes()


def _unpacked(data: bytes) -> npt.NDArray[np.uint16]:
    # Of three bytes the first two begin with one number and the last two end with the other.
    overlapping: npt.NDArray[np.uint16]
    overlapping = np.ndarray((len(data) // 3, 2), "<u2", data, strides=(3, 1))
    return np.right_shift(overlapping, _TWELVE).ravel() & np.uint16(0xFFF)


def _halved(numbers: npt.NDArray[np.generic]) -> Numbers:
    return numbers.reshape(-1, _HALF, 2).transpose(2, 0, 1).astype(np.float64, "C")


def _roots() -> list[int]:
    """zeta^(2 r(i) + 1), where r reverses the 7 bits of i."""
    return [pow(_ZETA, 2 * int(f"{i:07b}"[::-1], 2) + 1, Q) for i in range(_HALF)]


@cache
def _masks(size: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(bytes((octet,)) * size, "little") for octet in _OCTETS)


@cache
def _forward() -> Single:
    """What coefficients are multiplied by from the right; beside it the same times the roots."""
    roots = _roots()
    powers = [[pow(root, power, Q) for root in roots] for power in range(_HALF)]
    times = [[number * root % Q for number, root in zip(row, roots, strict=True)] for row in powers]
    return np.hstack((powers, times)).astype(np.float32)


@cache
def _inverse() -> Numbers:
    scale = pow(_HALF, -1, Q)
    inverse = [[pow(root, -power, Q) * scale % Q for power in range(_HALF)] for root in _roots()]
    return np.array(inverse, np.float64)
