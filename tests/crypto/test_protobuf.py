from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.protobuf import (
    bytes_field,
    fixed64_field,
    number_field,
    parse,
    read_varint,
    varint,
)
from raychat.errors import InvalidMessage

NUMBERS = frozenset((1, 2))
STRINGS = frozenset((3, 300))


def test_it_writes_the_bytes_of_the_encoding_guide() -> None:
    assert number_field(1, 150) == bytes.fromhex("089601")
    assert bytes_field(2, b"testing") == bytes.fromhex("120774657374696e67")


@given(st.integers(0, 2**64 - 1))
def test_a_number_reads_back(number: int) -> None:
    data = varint(number)
    assert read_varint(b"\xff" + data, 1) == (number, 1 + len(data))


@given(st.integers(0, 2**32 - 1), st.binary(max_size=300), st.binary(max_size=300))
def test_fields_read_back_in_any_order(number: int, short: bytes, long: bytes) -> None:
    written = [number_field(2, number), bytes_field(3, short), bytes_field(300, long)]
    expected = ({2: number}, {3: short, 300: long})
    assert parse(b"".join(written), NUMBERS, STRINGS) == expected
    assert parse(b"".join(reversed(written)), NUMBERS, STRINGS) == expected


@given(st.integers(0, 2**64 - 1))
def test_a_number_of_a_fixed_size_reads_back(number: int) -> None:
    data = fixed64_field(7, number) + number_field(1, 5)
    assert len(fixed64_field(7, number)) == 9
    assert parse(data, NUMBERS, STRINGS, {7}) == ({1: 5, 7: number}, {})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(fixed64_field(7, 1) * 2, id="twice"),
        pytest.param(number_field(7, 1), id="a varint"),
        pytest.param(bytes_field(7, bytes(8)), id="a string"),
        pytest.param(varint(7 << 3 | 5) + bytes(4), id="a fixed32"),
        pytest.param(fixed64_field(7, 1)[:-1], id="cut off"),
    ],
)
def test_a_number_of_a_fixed_size_is_just_that(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse(data, NUMBERS, STRINGS, {7})


def test_absent_fields_are_absent() -> None:
    assert parse(b"", NUMBERS, STRINGS) == ({}, {})


def test_unknown_fields_are_stepped_over() -> None:
    unknown = (
        number_field(9, 2**60)
        + bytes_field(10, b"later")
        + varint(11 << 3 | 1)
        + bytes(8)
        + varint(12 << 3 | 5)
        + bytes(4)
    )
    assert parse(unknown + number_field(1, 7) + unknown, NUMBERS, STRINGS) == ({1: 7}, {})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(number_field(1, 1) * 2, id="number twice"),
        pytest.param(bytes_field(3, b"a") * 2, id="string twice"),
        pytest.param(bytes_field(1, b"a"), id="string for a number"),
        pytest.param(number_field(3, 1), id="number for a string"),
        pytest.param(varint(1 << 3 | 1) + bytes(8), id="fixed64 for a number"),
        pytest.param(varint(3 << 3 | 5) + bytes(4), id="fixed32 for a string"),
        pytest.param(number_field(1, 2**32), id="number over 32 bits"),
        pytest.param(b"\x08" + b"\xff" * 9 + b"\x02", id="varint over 64 bits"),
        pytest.param(b"\x08" + b"\x80" * 10 + b"\x00", id="varint over 10 bytes"),
        pytest.param(b"\x08\x80", id="cut in a number"),
        pytest.param(b"\x80", id="cut in a tag"),
        pytest.param(b"\x1a\x05abcd", id="cut in a string"),
        pytest.param(varint(9 << 3 | 1) + bytes(7), id="cut in a fixed64"),
        pytest.param(varint(9 << 3 | 5) + bytes(3), id="cut in a fixed32"),
        pytest.param(b"\x1a" + varint(2**63), id="string of absurd size"),
        pytest.param(b"\x00\x01", id="field number 0"),
        pytest.param(b"\x0b\x0c", id="group"),
        pytest.param(b"\x0e", id="wire type 6"),
        pytest.param(b"\x0f", id="wire type 7"),
    ],
)
def test_what_is_not_well_formed_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse(data, NUMBERS, STRINGS)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        numbers, strings = parse(data, NUMBERS, STRINGS)
    except InvalidMessage:
        return
    assert numbers.keys() <= NUMBERS
    assert strings.keys() <= STRINGS
