from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.spqr import polynomials
from raychat.crypto.spqr.polynomials import RANK, SIZE, Numbers, Q

RANDOM = np.random.default_rng(5)


def halved(rows: npt.NDArray[np.int64]) -> Numbers:
    """(n, 256) numbers as the module has them."""
    return rows.reshape(-1, SIZE // 2, 2).transpose(2, 0, 1).astype(np.float64)


def whole(polys: Numbers) -> npt.NDArray[np.int64]:
    """And back, reduced."""
    return polys.transpose(1, 2, 0).reshape(-1, SIZE).astype(np.int64) % Q


def multiplied(left: list[int], right: list[int]) -> list[int]:
    """Modulo X^256 + 1, term by term."""
    result = [0] * SIZE
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            sign = 1 if i + j < SIZE else -1
            result[(i + j) % SIZE] += sign * a * b
    return [number % Q for number in result]


def transformed(polynomial: list[int]) -> list[int]:
    """As algorithm 9 defines it: remainders modulo X^2 - zeta^(2 r(i) + 1)."""
    roots = [pow(17, 2 * int(f"{i:07b}"[::-1], 2) + 1, Q) for i in range(SIZE // 2)]
    return [
        sum(number * pow(root, power, Q) for power, number in enumerate(polynomial[half::2])) % Q
        for root in roots
        for half in (0, 1)
    ]


def test_a_product_with_a_transform_is_that_of_the_polynomials() -> None:
    left, small = RANDOM.integers(0, Q, (6, SIZE)), RANDOM.integers(-2, 3, (RANK, SIZE))
    vectors = halved(np.array([transformed(row) for row in left.tolist()]))
    found = whole(polynomials.product(vectors, polynomials.factor(halved(small))))
    for place, row in enumerate(found.tolist()):
        terms = zip(left[RANK * place : RANK * (place + 1)].tolist(), small.tolist(), strict=True)
        sums = zip(*(multiplied(a, b) for a, b in terms), strict=True)
        assert row == [sum(column) % Q for column in sums]


@pytest.mark.parametrize("number", [-2, 2])
def test_products_of_the_largest_numbers_are_exact(number: int) -> None:
    left = np.full((RANK, SIZE), Q - 1)
    small = np.full((RANK, SIZE), number)
    # The polynomial whose transform is full of q - 1, term by term.
    inverse = [-1, -1] + [0] * (SIZE - 2)
    assert transformed(inverse) == left[0].tolist()
    (found,) = whole(polynomials.product(halved(left), polynomials.factor(halved(small)))).tolist()
    assert found == [RANK * term % Q for term in multiplied(inverse, small[0].tolist())]


def test_sums_that_are_larger_than_any_stay_exact() -> None:
    largest = 2 * (SIZE // 2) * (Q - 1)
    assert largest < 1 << 24
    assert SIZE // 2 * (Q - 1) * 2 * RANK * (Q - 1) * largest < 1 << 53


def test_uniform_samples_are_the_small_enough_numbers_of_the_stream() -> None:
    seeds = [b"%d" % number for number in range(40)]
    rows = whole(polynomials.sample_uniform(seeds))
    for seed, row in zip(seeds, rows, strict=True):
        stream = hashlib.shake_128(seed).digest(3000)
        numbers = []
        for at in range(0, len(stream), 3):
            low, middle, high = stream[at : at + 3]
            numbers += [low | (middle & 15) << 8, middle >> 4 | high << 4]
        assert row.tolist() == [number for number in numbers if number < Q][:SIZE]


def test_small_samples_are_differences_of_bit_counts() -> None:
    seeds = [b"%d" % number for number in range(7)]
    rows = whole(polynomials.sample_small(seeds))
    for seed, row in zip(seeds, rows, strict=True):
        stream = int.from_bytes(hashlib.shake_256(seed).digest(128), "little")
        for place, number in enumerate(row.tolist()):
            bits = [stream >> 4 * place + bit & 1 for bit in range(4)]
            assert number == (bits[0] + bits[1] - bits[2] - bits[3]) % Q


@given(st.binary(min_size=384, max_size=384))
def test_numbers_of_twelve_bits_are_unpacked_from_the_lowest_bit_on(data: bytes) -> None:
    stream = int.from_bytes(data, "little")
    expected = [stream >> 12 * place & 4095 for place in range(SIZE)]
    assert polynomials.unpack(data).transpose(1, 2, 0).ravel().tolist() == expected


@pytest.mark.parametrize("offset", [-(Q**4) * 58, -Q, 0, Q, Q**4 * 58])
@pytest.mark.parametrize("width", [4, 10])
def test_every_number_is_compressed_as_if_divided_and_rounded(width: int, offset: int) -> None:
    rows = np.resize(np.arange(Q), (14, SIZE))
    stream = int.from_bytes(polynomials.compress(halved(rows + offset), width), "little")
    for place, number in enumerate(rows.ravel().tolist()):
        expected = ((number << width) * 2 + Q) // (2 * Q) % (1 << width)
        assert stream >> width * place & (1 << width) - 1 == expected


def test_a_bit_becomes_zero_or_half_of_q() -> None:
    (row,) = whole(polynomials.message(b"\x05" + bytes(31))).tolist()
    assert row == [1665, 0, 1665] + [0] * (SIZE - 3)
