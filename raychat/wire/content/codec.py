"""Contents to bytes and back. The schema is in CONTENT.md beside this."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from raychat.errors import Malformed, TooLarge
from raychat.wire.content import fields
from raychat.wire.content.changes import (
    Change,
    Delete,
    Edit,
    Profile,
    Reaction,
    Read,
    Timer,
    Typing,
    Vote,
)
from raychat.wire.content.fields import Fields
from raychat.wire.content.message import Contact, Location, Message, Poll, Text
from raychat.wire.content.sync import (
    MAX_BYTES,
    Devices,
    Erase,
    Marks,
    Resend,
    Retry,
    Sent,
    Settings,
    Transfer,
)

VERSION: Final = 1

BLOCK: Final = 160
"""Padded plaintexts are a multiple of this many bytes."""

MAX_WRAPPED_BYTES: Final = MAX_BYTES + 512
"""The size of a `Sent` or `Resend`, which holds another content."""


class Kind(IntEnum):
    """The kinds of contents. 20 is reserved for media."""

    TEXT = 1
    READ = 2
    EDIT = 3
    DELETE = 4
    REACTION = 5
    CONTACT = 6
    LOCATION = 7
    POLL = 8
    VOTE = 9
    TIMER = 10
    TYPING = 11
    SENT = 12
    RETRY = 13
    RESEND = 14
    DEVICES = 15
    SETTINGS = 16
    MARKS = 17
    TRANSFER = 18
    PROFILE = 19
    ERASE = 21


class Unknown(NamedTuple):
    """Something a later program wrote: kept and shown as such. `data` is the whole content."""

    at: int
    version: int
    kind: int
    data: bytes

    def __repr__(self) -> str:
        return f"Unknown(version={self.version}, kind={self.kind}, {len(self.data)} bytes)"


OwnSync = Sent | Marks | Settings | Erase | Transfer
"""What counts only from a device of one's own account."""

Known = (
    Message | Read | Change | Timer | Typing | Retry | Resend | Devices | Profile | OwnSync
)  # fmt: skip
Content = Known | Unknown


_TYPES: Final[dict[Kind, Any]] = {
    Kind.TEXT: Text,
    Kind.READ: Read,
    Kind.EDIT: Edit,
    Kind.DELETE: Delete,
    Kind.REACTION: Reaction,
    Kind.CONTACT: Contact,
    Kind.LOCATION: Location,
    Kind.POLL: Poll,
    Kind.VOTE: Vote,
    Kind.TIMER: Timer,
    Kind.TYPING: Typing,
    Kind.SENT: Sent,
    Kind.RETRY: Retry,
    Kind.RESEND: Resend,
    Kind.DEVICES: Devices,
    Kind.SETTINGS: Settings,
    Kind.MARKS: Marks,
    Kind.TRANSFER: Transfer,
    Kind.PROFILE: Profile,
    Kind.ERASE: Erase,
}
_READERS: Final[dict[int, Callable[[int, Fields], Known]]] = {
    int(kind): type_.read for kind, type_ in _TYPES.items()
}
_KINDS: Final[dict[type, Kind]] = {type_: kind for kind, type_ in _TYPES.items()}
_WRAPPERS: Final = (Kind.SENT, Kind.RESEND)


def kind_of(content: Content) -> int:
    """The number of a content's kind."""
    return content.kind if isinstance(content, Unknown) else _KINDS[type(content)]


def is_shown(content: Content) -> bool:
    """Whether it becomes a message a person sees, which earns its sender a ✓✓."""
    return isinstance(content, Message | Unknown)


def encode(content: Content) -> bytes:
    """The bytes of a content, without padding. Raises TooLarge, Malformed."""
    if isinstance(content, Unknown):
        data = content.data
    else:
        kind = _KINDS[type(content)]
        try:
            data = msgpack.packb((VERSION, kind, content.at, content.fields()))
        except UnicodeEncodeError as error:
            raise Malformed("The text holds half a character (a lone surrogate).") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise Malformed("The content holds what cannot be written.") from error
        if len(data) > _most(kind):
            raise TooLarge(f"A message is at most {MAX_BYTES // 1024} KiB; this one is longer.")
        decode(data)  # nothing leaves that the other side would refuse
    if len(data) > MAX_WRAPPED_BYTES:
        raise TooLarge(f"A message is at most {MAX_BYTES // 1024} KiB; this one is longer.")
    return data


def decode(data: bytes) -> Content:
    """The content of unpadded bytes. Raises Malformed, TooLarge, and nothing else."""
    if len(data) > MAX_WRAPPED_BYTES:
        raise TooLarge(f"A content is at most {MAX_BYTES} bytes.")
    try:
        raw = msgpack.unpackb(data, max_ext_len=0, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("The content is not msgpack.") from error
    if type(raw) is not list or len(raw) < 3:
        raise Malformed("A content is version, kind, time and fields.")
    version, kind, at = (fields.count(item) for item in raw[:3])
    if len(data) > _most(kind):
        raise TooLarge(f"A content is at most {MAX_BYTES} bytes.")
    reader = _READERS.get(kind)
    if version != VERSION or reader is None:
        return Unknown(at, version, kind, data)
    read = raw[3] if len(raw) > 3 else None
    if type(read) is not dict:
        raise Malformed("The fields of a content are a map.")
    return reader(at, read)


def _most(kind: int) -> int:
    return MAX_WRAPPED_BYTES if kind in _WRAPPERS else MAX_BYTES


def pad(content: bytes) -> bytes:
    """Content with 0x80 and zeros after it, to a multiple of BLOCK bytes."""
    return content + b"\x80" + bytes(-(len(content) + 1) % BLOCK)


def unpad(plaintext: bytes) -> bytes:
    """The content of a padded plaintext. Raises Malformed."""
    content = plaintext.rstrip(b"\x00")
    if not content or content[-1] != 0x80:
        raise Malformed("The padding of the content is damaged.")
    return content[:-1]
