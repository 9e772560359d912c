"""Content, version 1: what is inside an envelope's body once it has been decrypted.

    plaintext = content | 0x80 | zeros, up to a multiple of 160 bytes
    content   = msgpack [version, kind, at, fields]

`at` is the sender's clock in milliseconds, `fields` a msgpack map whose keys are short strings.
The padding hides the length of what was written from everyone on the way.

| kind | name | fields |
|---|---|---|
| 1 | text | `text`; `number` (optional): the phone number the sender says is theirs |
| 2 | read | `marks`: list of `[device, incarnation, [lo, hi, lo, hi…]]` |

A message is named, among all devices of two people, by the device and incarnation that sent it
and its message id. `read` names messages that its receiver has sent to its sender.

`number` proves nothing; show it only after a lookup of that number has given the account the
message came from. A reader ignores fields it does not know. A content of a kind or version it
does not know becomes an `Unknown`, which holds all of it, so that a later version of the
program can read it. Everything else that is wrong raises `Malformed` or `TooLarge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgpack

from raychat.errors import Malformed, TooLarge
from raychat.ids import MAX_DEVICE, DeviceId, PhoneNumber
from raychat.wire.frames import MAX_COUNT

VERSION: Final = 1
TEXT: Final = 1
READ: Final = 2

BLOCK: Final = 160
"""Padded plaintexts are a multiple of this many bytes."""

MAX_BYTES: Final = 32 * 1024
"""A content's size before padding: six devices' parts of it fit into one WebSocket message."""

MAX_MARKS: Final = 8
MAX_RANGES: Final = 128
MAX_NUMBER: Final = 16


class Text(NamedTuple):
    """Something written. `at` is the sender's clock (ms); `number` is the sender's own claim."""

    at: int
    text: str
    number: PhoneNumber | None = None

    def __repr__(self) -> str:
        return f"Text(at={self.at}, {len(self.text)} characters)"


class Mark(NamedTuple):
    """Messages of one sending device: `ranges` of their ids are lo, hi, lo, hi…"""

    device: DeviceId
    incarnation: int
    ranges: Sequence[int]


class Read(NamedTuple):
    """The sender of this has read these messages of yours, the last of them at `at` (ms)."""

    at: int
    marks: Sequence[Mark]


class Unknown(NamedTuple):
    """Something a later program wrote: kept and shown as such. `data` is the whole content."""

    at: int
    version: int
    kind: int
    data: bytes

    def __repr__(self) -> str:
        return f"Unknown(version={self.version}, kind={self.kind}, {len(self.data)} bytes)"


Content = Text | Read | Unknown


def encode(content: Content) -> bytes:
    """The bytes of a content, without padding. Raises TooLarge, Malformed."""
    match content:
        case Text(at, text, number):
            if not text:
                raise Malformed("A message has at least one character.")
            fields: dict[str, object] = {"text": text}
            if number is not None:
                fields["number"] = str(number)
            data = _pack(TEXT, at, fields)
        case Read(at, marks):
            data = _pack(READ, at, {"marks": [tuple(mark) for mark in marks]})
        case Unknown():
            data = content.data
    if len(data) > MAX_BYTES:
        raise TooLarge(f"A message is at most {MAX_BYTES // 1024} KiB; this one is longer.")
    return data


def decode(data: bytes) -> Content:
    """The content of unpadded bytes. Raises Malformed, TooLarge, and nothing else."""
    if len(data) > MAX_BYTES:
        raise TooLarge(f"A content is at most {MAX_BYTES} bytes.")
    try:
        raw = msgpack.unpackb(data, max_ext_len=0, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("The content is not msgpack.") from error
    if type(raw) is not list or len(raw) < 3:
        raise Malformed("A content is version, kind, time and fields.")
    version, kind, at = (_count(item) for item in raw[:3])
    if version != VERSION or kind not in (TEXT, READ):
        return Unknown(at, version, kind, data)
    fields = raw[3] if len(raw) > 3 else None
    if type(fields) is not dict:
        raise Malformed("The fields of a content are a map.")
    if kind == TEXT:
        return Text(at, _text(fields.get("text")), _number(fields.get("number")))
    return Read(at, _marks(fields.get("marks")))


def pad(content: bytes) -> bytes:
    """Content with 0x80 and zeros after it, to a multiple of BLOCK bytes."""
    return content + b"\x80" + bytes(-(len(content) + 1) % BLOCK)


def unpad(plaintext: bytes) -> bytes:
    """The content of a padded plaintext. Raises Malformed."""
    content = plaintext.rstrip(b"\x00")
    if not content or content[-1] != 0x80:
        raise Malformed("The padding of the content is damaged.")
    return content[:-1]


def _pack(kind: int, at: int, fields: dict[str, object]) -> bytes:
    try:
        packed: bytes = msgpack.packb((VERSION, kind, at, fields))
    except UnicodeEncodeError as error:
        raise Malformed("The text holds half a character (a lone surrogate).") from error
    return packed


def _count(value: object) -> int:
    # Times need 41 bits since 2004, ids have 40.
    if type(value) is int and 0 <= value < 2**53:
        return value
    raise Malformed("A number of the content is out of range.")


def _text(value: object) -> str:
    if type(value) is str and value:
        return value
    raise Malformed("A text has at least one character.")


def _number(value: object) -> PhoneNumber | None:
    """A claim that does not look like a number is as good as none."""
    if type(value) is not str or not 2 <= len(value) <= MAX_NUMBER or value[0] != "+":
        return None
    return PhoneNumber(value) if value[1:].isascii() and value[1:].isdigit() else None


def _marks(value: object) -> list[Mark]:
    if type(value) is not list or not 0 < len(value) <= MAX_MARKS:
        raise Malformed(f"A read message has 1 to {MAX_MARKS} marks.")
    return [_mark(item) for item in value]


def _mark(value: Any) -> Mark:
    if type(value) is not list or len(value) < 3 or type(value[2]) is not list:
        raise Malformed("A mark is device, incarnation and ranges.")
    device, incarnation = _count(value[0]), _count(value[1])
    ranges = [_count(item) for item in value[2][: MAX_RANGES * 2 + 1]]
    pairs = list(zip(ranges[::2], ranges[1::2], strict=False))
    if not 1 <= device <= MAX_DEVICE or not pairs or len(ranges) % 2 or len(pairs) > MAX_RANGES:
        raise Malformed(f"A mark has 1 to {MAX_RANGES} ranges of a device's messages.")
    if any(not 1 <= lo <= hi <= MAX_COUNT for lo, hi in pairs):
        raise Malformed("A range is a first and a last message id.")
    return Mark(DeviceId(device), incarnation, ranges)
