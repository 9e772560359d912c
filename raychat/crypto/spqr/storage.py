"""How a state of the Braid is stored.

    number of the state u8 | epoch u64 | authenticator 2 * 32 | its fields, in the order declared

Each field is its size (u16) and its bytes. A state is stored with every message, so an
encoder is kept as its blob and a decoder as the chunks it has, both as they are in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from raychat.crypto.spqr import kem, states
from raychat.crypto.spqr.authenticator import MAC_BYTES, Authenticator
from raychat.crypto.spqr.erasure import CHUNK_BYTES, Decoder, Encoder
from raychat.crypto.spqr.kem import DecapsulationKey, Encapsulation
from raychat.crypto.spqr.states import State
from raychat.errors import StoreError

_HEAD: Final = struct.Struct(">BQ32s32s")
_SIZE: Final = struct.Struct(">H")


class _Field(NamedTuple):
    """`write` gives the bytes of a value, `read` the value of bytes, None if they are damaged."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], object | None]


def _bytes(size: int) -> _Field:
    return _Field(bytes, lambda data: data if len(data) == size else None)


def _encoder(chunks: int) -> _Field:
    size = 2 + chunks * CHUNK_BYTES
    return _Field(
        Encoder.to_bytes, lambda data: Encoder.from_bytes(data) if len(data) == size else None
    )


def _decoder(chunks: int) -> _Field:
    return _Field(Decoder.to_bytes, lambda data: Decoder.from_bytes(chunks, data))


def _read_key(data: bytes) -> DecapsulationKey | None:
    return DecapsulationKey(data) if len(data) == kem.KEY_BYTES else None


def _read_encapsulation(data: bytes) -> Encapsulation | None:
    header, random = data[: kem.HEADER_BYTES], data[kem.HEADER_BYTES :]
    return Encapsulation(header, random) if len(random) == kem.RANDOM_BYTES else None


_KEY: Final = _Field(lambda key: key.seed, _read_key)
_ENCAPSULATION: Final = _Field(lambda begun: begun.header + begun.random, _read_encapsulation)
_FIRST: Final = _bytes(kem.FIRST_BYTES)
_SECOND: Final = _bytes(kem.SECOND_BYTES + MAC_BYTES)

_LAYOUT: Final[tuple[tuple[type[State], tuple[_Field, ...]], ...]] = (
    (states.KeysUnsampled, ()),
    (states.KeysSampled, (_KEY, _bytes(kem.VECTOR_BYTES), _encoder(states.HEADER_CHUNKS))),
    (
        states.HeaderSent,
        (_KEY, _encoder(states.VECTOR_CHUNKS), _decoder(states.FIRST_CHUNKS)),
    ),
    (states.Ct1Received, (_KEY, _encoder(states.VECTOR_CHUNKS), _FIRST)),
    (states.EkSentCt1Received, (_KEY, _FIRST, _decoder(states.SECOND_CHUNKS))),
    (states.NoHeaderReceived, (_decoder(states.HEADER_CHUNKS),)),
    (states.HeaderReceived, (_bytes(kem.HEADER_BYTES),)),
    (
        states.Ct1Sampled,
        (_ENCAPSULATION, _encoder(states.FIRST_CHUNKS), _decoder(states.VECTOR_CHUNKS)),
    ),
    (states.EkReceivedCt1Sampled, (_encoder(states.FIRST_CHUNKS), _SECOND)),
    (states.Ct1Acknowledged, (_ENCAPSULATION, _FIRST, _decoder(states.VECTOR_CHUNKS))),
    (states.Ct2Sampled, (_encoder(states.SECOND_CHUNKS),)),
)
_NUMBERS: Final = {kind: number for number, (kind, _) in enumerate(_LAYOUT)}
_NAMES: Final = tuple(
    tuple(name for name in kind.__dataclass_fields__ if name not in ("epoch", "auth"))
    for kind, _ in _LAYOUT
)


def to_bytes(state: State) -> bytes:
    number = _NUMBERS[type(state)]
    parts = [_HEAD.pack(number, state.epoch, *state.auth)]
    for name, field in zip(_NAMES[number], _LAYOUT[number][1], strict=True):
        data = field.write(getattr(state, name))
        parts += (_SIZE.pack(len(data)), data)
    return b"".join(parts)


def from_bytes(data: bytes) -> State:
    """Raises StoreError or struct.error."""
    number: int
    number, epoch, root, mac = _HEAD.unpack_from(data)
    if number >= len(_LAYOUT):
        raise StoreError("A stored session is in an unknown state.")
    kind, fields = _LAYOUT[number]
    at = _HEAD.size
    values: list[Any] = []
    for field in fields:
        start = at + _SIZE.size
        at = start + int.from_bytes(data[at:start], "big")
        value = field.read(data[start:at])
        if value is None:
            raise StoreError("A stored session is damaged.")
        values.append(value)
    if at != len(data):
        raise StoreError("A stored session is damaged.")
    return kind(epoch, Authenticator(root, mac), *values)
