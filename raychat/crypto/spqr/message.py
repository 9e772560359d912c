"""Field 5 of a SignalMessage: what the two post-quantum ratchets tell each other.

Specification: "The ML-KEM Braid Protocol", section 2 (messages). Written as

    version 1 | epoch varint | counter varint | kind | [chunk number varint | 32 bytes]

`counter` counts the messages under one key chain, from 1. Bytes after the last part belong to
newer peers and are stepped over.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Self

from raychat.crypto.protobuf import read_varint, varint
from raychat.crypto.spqr.erasure import CHUNK_BYTES, Chunk
from raychat.errors import InvalidMessage, LegacyVersion, UnknownVersion

VERSION: Final = 1

_VERSION_BYTE: Final = bytes((VERSION,))
_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF
LAST_EPOCH: Final = 0xFFFF_FFFF_FFFF


class Kind(enum.IntEnum):
    """What a message carries of the key exchange. The numbers are Signal's."""

    NONE = 0
    HEADER = 1
    """A chunk of the header of an encapsulation key."""
    VECTOR = 2
    """A chunk of the rest of the encapsulation key."""
    VECTOR_ACK = 3
    """The same; the first part of the ciphertext has come whole."""
    ACK = 4
    """The first part of the ciphertext has come whole, and of the second at least a chunk."""
    FIRST = 5
    """A chunk of the first part of the ciphertext."""
    SECOND = 6
    """A chunk of the second part of the ciphertext."""


class Payload(NamedTuple):
    """The part of a message that concerns the exchange; `chunk` is None for NONE and ACK."""

    kind: Kind
    chunk: Chunk | None = None


class BraidMessage(NamedTuple):
    """All of it."""

    epoch: int
    counter: int
    payload: Payload

    def to_bytes(self) -> bytes:
        kind, chunk = self.payload
        head = _VERSION_BYTE + varint(self.epoch) + varint(self.counter) + _KIND_BYTES[kind]
        if chunk is None:
            return head
        return head + varint(chunk.number) + chunk.data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises LegacyVersion for an empty field, UnknownVersion, InvalidMessage."""
        if not data or data[0] < VERSION:
            raise LegacyVersion("The message has no post-quantum ratchet; update the sender.")
        if data[0] > VERSION:
            raise UnknownVersion
        epoch, at = read_varint(data, 1)
        counter, at = read_varint(data, at)
        if not 1 <= epoch <= LAST_EPOCH or counter > _U32:
            raise InvalidMessage("An epoch or counter of the post-quantum ratchet cannot be.")
        kind = _KINDS.get(data[at : at + 1])
        if kind is None:
            raise InvalidMessage("The post-quantum ratchet's part is of an unknown kind.")
        at += 1
        chunk = None
        if kind is not Kind.NONE and kind is not Kind.ACK:
            number, at = read_varint(data, at)
            piece = data[at : at + CHUNK_BYTES]
            if number > _U16 or len(piece) != CHUNK_BYTES:
                raise InvalidMessage("A chunk of the post-quantum ratchet is damaged.")
            chunk = Chunk(number, piece)
        return cls(epoch, counter, Payload(kind, chunk))


_KIND_BYTES: Final = {kind: bytes((kind,)) for kind in Kind}
_KINDS: Final = {byte: kind for kind, byte in _KIND_BYTES.items()}
