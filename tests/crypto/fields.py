"""Take messages apart into their fields, to damage each one."""

from __future__ import annotations

from collections.abc import Iterator

from raychat.crypto.protobuf import LENGTH, VARINT, read_varint


def fields(content: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """(field number, offset, end) of the value of each field of the protobuf at `start`."""
    at = start
    while at < len(content):
        tag, at = read_varint(content, at)
        if tag & 7 == VARINT:
            _, end = read_varint(content, at)
        else:
            assert tag & 7 == LENGTH
            size, at = read_varint(content, at)
            end = at + size
        yield tag >> 3, at, end
        at = end


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def signal_corruptions(body: bytes) -> Iterator[tuple[str, bytes]]:
    """A SignalMessage with one bit flipped, once in each field and in the MAC.

    Field 5 has fields of its own, each of which is damaged too.
    """
    for number, start, end in fields(body[:-8], 1):
        yield f"field {number}", flipped(body, (start + end) // 2)
        if number == 5:
            for name, at in braid_parts(body, start, end):
                yield f"field 5, {name}", flipped(body, at)
    yield "mac", flipped(body, len(body) - 1)


def braid_parts(body: bytes, start: int, end: int) -> Iterator[tuple[str, int]]:
    """The offset of a byte in each part of the post-quantum ratchet's field."""
    yield "version", start
    _, at = read_varint(body, start + 1)
    yield "epoch", start + 1
    yield "counter", at
    _, at = read_varint(body, at)
    yield "kind", at
    if at + 1 < end:
        yield "chunk number", at + 1
        yield "chunk", end - 1


def pre_key_corruptions(body: bytes) -> Iterator[tuple[str, bytes]]:
    """A PreKeySignalMessage with one bit flipped in each field, also of the message inside."""
    for number, start, end in fields(body, 1):
        if number == 4:
            for name, inner in signal_corruptions(body[start:end]):
                yield f"inner {name}", body[:start] + inner + body[end:]
        elif number != 5:  # The registration id is information only.
            yield f"field {number}", flipped(body, (start + end) // 2)
