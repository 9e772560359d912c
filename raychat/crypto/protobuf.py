"""The part of Protocol Buffers that Signal's messages use: varints and byte strings.

Encoding spec: protobuf.dev/programming-guides/encoding. The reader is stricter than the
format asks, because all of its input comes from strangers: a known field may come once, a
varint is at most 64 bits and a number at most 32, and groups are refused. Unknown fields of
every other wire type are stepped over, so that newer peers may add some.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from raychat.errors import InvalidMessage

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_FIXED: Final = {FIXED64: 8, FIXED32: 4}


def varint(number: int) -> bytes:
    """`number` (not negative) in base 128, least significant group first."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(field: int, number: int) -> bytes:
    """The field `field` holding an unsigned number."""
    return varint(field << 3 | VARINT) + varint(number)


def bytes_field(field: int, data: bytes) -> bytes:
    """The field `field` holding a byte string."""
    return varint(field << 3 | LENGTH) + varint(len(data)) + data


def fixed64_field(field: int, number: int) -> bytes:
    """The field `field` holding an unsigned number in 8 bytes, whatever its size."""
    return varint(field << 3 | FIXED64) + number.to_bytes(8, "little")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at offset `at`, and the offset after it. Raises InvalidMessage."""
    number = shift = 0
    while shift < 64 + 6:
        if at >= len(data):
            raise InvalidMessage("The message ends in the middle of a number.")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number > _U64:
                break
            return number, at
        shift += 7
    raise InvalidMessage("A number in the message is longer than 64 bits.")


def parse(
    data: bytes,
    numbers: Set[int],
    strings: Set[int],
    fixed64: Set[int] = frozenset(),
) -> tuple[dict[int, int], dict[int, bytes]]:
    """The fields of one message: those in `numbers` as u32, those in `strings` as bytes.

    Those in `fixed64` have 8 bytes each and stand among the numbers.

    An absent field is absent from the result. Raises InvalidMessage for anything that is not
    well formed, for a known field of the wrong type or given twice, and for a number over 32
    bits.
    """
    found_numbers: dict[int, int] = {}
    found_strings: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        tag, at = read_varint(data, at)
        field, wire_type = tag >> 3, tag & 7
        if field == 0:
            raise InvalidMessage("The message has a field number 0.")
        if wire_type == VARINT:
            if field in strings or field in fixed64 or field in found_numbers:
                raise _misplaced(field)
            number, at = read_varint(data, at)
            if field in numbers:
                if number > _U32:
                    raise InvalidMessage(f"Field {field} does not fit in 32 bits.")
                found_numbers[field] = number
        elif wire_type == LENGTH:
            if field in numbers or field in fixed64 or field in found_strings:
                raise _misplaced(field)
            size, at = read_varint(data, at)
            stop = at + size
            if stop > end:
                raise InvalidMessage(f"Field {field} runs over the end of the message.")
            if field in strings:
                found_strings[field] = data[at:stop]
            at = stop
        elif wire_type in _FIXED:
            if field in numbers or field in strings or field in found_numbers:
                raise _misplaced(field)
            start, at = at, at + _FIXED[wire_type]
            if at > end:
                raise InvalidMessage(f"Field {field} runs over the end of the message.")
            if field in fixed64:
                if wire_type != FIXED64:
                    raise _misplaced(field)
                found_numbers[field] = int.from_bytes(data[start:at], "little")
        else:
            raise InvalidMessage(f"Field {field} has the unusable wire type {wire_type}.")
    return found_numbers, found_strings


def _misplaced(field: int) -> InvalidMessage:
    return InvalidMessage(f"Field {field} comes twice or has the wrong type.")
