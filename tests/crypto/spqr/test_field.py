from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.spqr.field import interpolated, multiply

ELEMENTS = st.integers(0, 0xFFFF)


def by_hand(left: int, right: int) -> int:
    """Multiply polynomials over GF(2) and reduce, one bit at a time."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left > 0xFFFF:
            left ^= 0x1100B
        right >>= 1
    return product


@given(ELEMENTS, ELEMENTS)
def test_a_product_is_that_of_the_polynomials(left: int, right: int) -> None:
    assert multiply(left, right) == by_hand(left, right)


def test_every_element_but_zero_has_an_inverse() -> None:
    """Which it has only if x is primitive: its powers are all elements."""
    power, seen = 1, set()
    for _ in range(0xFFFF):
        seen.add(power)
        power = by_hand(power, 2)
    assert len(seen) == 0xFFFF


def value(coefficients: list[int], place: int) -> int:
    result = 0
    for coefficient in reversed(coefficients):
        result = by_hand(result, place) ^ coefficient
    return result


@given(
    st.lists(st.lists(ELEMENTS, min_size=4, max_size=4), min_size=1, max_size=3),
    st.lists(ELEMENTS, min_size=7, max_size=7, unique=True),
)
def test_a_polynomial_is_found_from_its_values(
    polynomials: list[list[int]], places: list[int]
) -> None:
    known, wanted = places[:4], places[4:]
    values = [[value(polynomial, place) for polynomial in polynomials] for place in known]
    found = interpolated(np.array(known), np.array(values), np.array(wanted))
    expected = [[value(polynomial, place) for polynomial in polynomials] for place in wanted]
    assert found.tolist() == expected
