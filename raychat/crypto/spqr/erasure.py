"""The erasure code: a blob is sent as an endless row of chunks, any N of which give it back.

Specification: "The ML-KEM Braid Protocol", section 2 (encoders and decoders). A blob of N * 32
bytes is read as 16 polynomials over GF(2^16) of degree below N: the 16-bit word w is the value
of polynomial w mod 16 at the place w div 16. Chunk i holds the values of all 16 at the place i,
so the first N chunks are the blob itself, and only later ones have to be computed. Chunk
numbers are 16 bits and wrap round.

A sender that gets no answer needs a redundant chunk for each message, and computes them in
batches; a receiver computes those that were lost, once for each blob. numpy is imported when
that first happens, since it takes 50 ms and a short command needs none of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

CHUNK_BYTES: Final = 32

_NUMBERS: Final = 1 << 16
_BATCH: Final = 16
_ENTRY: Final = 2 + CHUNK_BYTES


class Chunk(NamedTuple):
    """One piece of a blob: its number, 0..65535, and 32 bytes."""

    number: int
    data: bytes


class Encoder(NamedTuple):
    """Hands out the chunks of `blob`, one after another. `number` is that of the next one."""

    blob: bytes
    number: int = 0

    def next(self) -> tuple[Encoder, Chunk]:
        """The next chunk, and the encoder that stands after it."""
        number = self.number
        at = number * CHUNK_BYTES
        data = self.blob[at : at + CHUNK_BYTES]
        if not data:
            data = _redundant(self.blob, number // _BATCH)[number % _BATCH]
        return Encoder(self.blob, (number + 1) % _NUMBERS), Chunk(number, data)

    def to_bytes(self) -> bytes:
        return self.number.to_bytes(2, "big") + self.blob

    @classmethod
    def from_bytes(cls, data: bytes) -> Encoder:
        return cls(data[2:], int.from_bytes(data[:2], "big"))

    def __repr__(self) -> str:
        return f"Encoder({len(self.blob)} bytes, number={self.number})"


class Decoder(NamedTuple):
    """Collects chunks of a blob of `needed` * 32 bytes.

    `entries` is a row of (number u16, 32 bytes) in the order they came, as it is stored.
    """

    needed: int
    entries: bytes = b""

    def added(self, chunk: Chunk) -> Decoder:
        """With one more chunk. One that is here already, or not needed, changes nothing."""
        entries = self.entries
        if len(entries) == self.needed * _ENTRY:
            return self
        number = chunk.number.to_bytes(2, "big")
        for at in range(0, len(entries), _ENTRY):
            if entries.startswith(number, at):
                return self
        return Decoder(self.needed, entries + number + chunk.data)

    @property
    def missing(self) -> int:
        """How many chunks are still to come."""
        return self.needed - len(self.entries) // _ENTRY

    def start(self) -> bytes:
        """The beginning of the blob, as far as its chunks have come in order."""
        entries = self.entries
        pieces: list[bytes] = []
        for at in range(0, len(entries), _ENTRY):
            if not entries.startswith(len(pieces).to_bytes(2, "big"), at):
                break
            pieces.append(entries[at + 2 : at + _ENTRY])
        return b"".join(pieces)

    def blob(self) -> bytes | None:
        """The blob, once there are enough chunks."""
        entries = self.entries
        if len(entries) < self.needed * _ENTRY:
            return None
        known = {
            int.from_bytes(entries[at : at + 2], "big"): entries[at + 2 : at + _ENTRY]
            for at in range(0, len(entries), _ENTRY)
        }
        lost = [number for number in range(self.needed) if number not in known]
        if lost:
            known |= zip(lost, _chunks(list(known), b"".join(known.values()), lost), strict=True)
        return b"".join([known[number] for number in range(self.needed)])

    def to_bytes(self) -> bytes:
        return self.entries

    @classmethod
    def from_bytes(cls, needed: int, data: bytes) -> Decoder | None:
        """None for what cannot be the chunks of an unfinished decoder."""
        count, rest = divmod(len(data), _ENTRY)
        return cls(needed, data) if not rest and count < needed else None

    def __repr__(self) -> str:
        return f"Decoder({len(self.entries) // _ENTRY} of {self.needed})"


@lru_cache(maxsize=64)
def _redundant(blob: bytes, batch: int) -> list[bytes]:
    """The chunks of one batch. What is among them of the blob itself is left empty."""
    whole = list(range(len(blob) // CHUNK_BYTES))
    numbers = range(batch * _BATCH, (batch + 1) * _BATCH)
    wanted = [number for number in numbers if number >= len(whole)]
    return [b""] * (_BATCH - len(wanted)) + _chunks(whole, blob, wanted)


def _chunks(numbers: list[int], data: bytes, wanted: list[int]) -> list[bytes]:
    """Chunks computed from others: `data` are those with these numbers, one after another."""
    import numpy as np

    from raychat.crypto.spqr.field import interpolated

    values = np.frombuffer(data, ">u2").reshape(len(numbers), -1)
    return [
        row.astype(">u2").tobytes()
        for row in interpolated(np.array(numbers), values, np.array(wanted))
    ]
