from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.spqr import polynomials
from raychat.crypto.spqr.polynomials import SIZE, Numbers, Q

RANDOM = np.random.default_rng(5)


def drawn(*shape: int) -> Numbers:
    return RANDOM.integers(0, Q, (*shape, SIZE))


def product(left: Numbers, right: Numbers) -> list[int]:
    """Modulo X^256 + 1, term by term."""
    result = [0] * SIZE
    for i, a in enumerate(left.tolist()):
        for j, b in enumerate(right.tolist()):
            sign = 1 if i + j < SIZE else -1
            result[(i + j) % SIZE] += sign * a * b
    return [number % Q for number in result]


def test_the_transform_is_undone() -> None:
    rows = drawn(3)
    assert (polynomials.restore(polynomials.transform(rows)) == rows).all()


def test_transforms_of_the_largest_numbers_are_exact() -> None:
    rows = np.full((1, SIZE), Q - 1)
    assert (polynomials.restore(polynomials.transform(rows)) == rows).all()


def test_multiplying_transforms_multiplies_polynomials() -> None:
    left, right = drawn(3), drawn(3)
    found = polynomials.restore(
        polynomials.inner_product(polynomials.transform(left), polynomials.transform(right))
    )
    terms = [product(a, b) for a, b in zip(left, right, strict=True)]
    assert found.tolist() == [sum(column) % Q for column in zip(*terms, strict=True)]


def test_a_matrix_is_multiplied_row_by_row() -> None:
    matrix, vector = drawn(3, 3), drawn(3)
    rows = [polynomials.inner_product(row, vector) for row in matrix]
    assert (polynomials.inner_product(matrix, vector) == np.array(rows)).all()


def test_uniform_samples_are_the_small_enough_numbers_of_the_stream() -> None:
    seeds = [b"%d" % number for number in range(40)]
    for seed, row in zip(seeds, polynomials.sample_uniform(seeds), strict=True):
        stream = hashlib.shake_128(seed).digest(3000)
        numbers = []
        for at in range(0, len(stream), 3):
            low, middle, high = stream[at : at + 3]
            numbers += [low | (middle & 15) << 8, middle >> 4 | high << 4]
        assert row.tolist() == [number for number in numbers if number < Q][:SIZE]


def test_small_samples_are_differences_of_bit_counts() -> None:
    (row,) = polynomials.sample_small([b"seed"])
    stream = int.from_bytes(hashlib.shake_256(b"seed").digest(128), "little")
    for place, number in enumerate(row.tolist()):
        bits = [stream >> 4 * place + bit & 1 for bit in range(4)]
        assert number == bits[0] + bits[1] - bits[2] - bits[3]


@given(st.binary(min_size=384, max_size=384))
def test_numbers_of_twelve_bits_are_unpacked_from_the_lowest_bit_on(data: bytes) -> None:
    stream = int.from_bytes(data, "little")
    expected = [stream >> 12 * place & 4095 for place in range(SIZE)]
    assert polynomials.unpack(data).tolist() == expected


@pytest.mark.parametrize("width", [4, 10])
def test_every_number_is_compressed_as_if_divided_and_rounded(width: int) -> None:
    rows = np.resize(np.arange(Q), (14, SIZE))
    stream = int.from_bytes(polynomials.compress(rows, width), "little")
    for place, number in enumerate(rows.ravel().tolist()):
        expected = ((number << width) * 2 + Q) // (2 * Q) % (1 << width)
        assert stream >> width * place & (1 << width) - 1 == expected


def test_a_bit_becomes_zero_or_half_of_q() -> None:
    assert polynomials.message(b"\x05" + bytes(31)).tolist()[:4] == [1665, 0, 1665, 0]
