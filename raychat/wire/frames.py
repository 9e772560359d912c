"""Device frames, protocol `raychat.v1`: what a device and a gateway say to each other.

A binary WebSocket message holds one or more frames one after another; a frame is a msgpack
array whose first element is its type. PROTOCOL.md beside this file is the full description.
Decoders return typed frames or raise `Malformed`, `TooLarge` or `Unsupported`; they never
raise anything else, whatever the bytes. Fields after the known ones are ignored, so that a
later minor version can add some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from raychat import limits
from raychat.errors import Malformed, TooLarge, Unsupported
from raychat.ids import MAX_DEVICE, AccountId, DeviceId, InboxNumber, MessageId, Secret

SUBPROTOCOL: Final = "raychat.v1"
VERSION: Final = 1
ACCOUNT_BYTES: Final = 16
TOKEN_BYTES: Final = 32
MAX_COUNT: Final = 2**40 - 1
"""Ids, inbox numbers and revisions stay below this, so that a store may pack them."""


MAX_TIME: Final = 2**53 - 1
"""Milliseconds since 1970 stay below this, as every JSON number does."""


class Type(IntEnum):
    """The first element of a frame. 1-15 go to the server, 16-31 to the device."""

    HELLO = 1
    SEND = 2
    ACK = 3
    WELCOME = 16
    SENT = 17
    REFUSED = 18
    ENVELOPE = 19
    RECEIPT = 20
    GOODBYE = 21
    DEVICES = 22


class Kind(IntEnum):
    """What an envelope's body is, to whoever opens it. The server does not look."""

    MESSAGE = 2
    PRE_KEY_MESSAGE = 3
    SENDER_KEY_MESSAGE = 7
    PLAINTEXT = 8


class Outcome(IntEnum):
    """What became of messages, as a receipt tells their sender."""

    DELIVERED = 0
    EXPIRED = 1


class Close(IntEnum):
    """WebSocket close codes of this protocol."""

    GOING_AWAY = 1001
    MALFORMED = 4400
    BAD_TOKEN = 4401
    NO_HELLO = 4408
    REPLACED = 4409
    SLOW_READER = 4413
    UNSUPPORTED = 4426
    OVERLOADED = 4429


class Part(NamedTuple):
    """A message for one device: `incarnation` names the registration it was encrypted for."""

    device: DeviceId
    incarnation: int
    kind: int
    body: bytes


class Hello(NamedTuple):
    """First frame: who is there, and what it has already (`seen` envelopes, `revision`).
    `untold` are those of the seen ones whose senders are not told, as in `Ack`."""

    version: int
    account: AccountId
    device: DeviceId
    token: Secret
    seen: InboxNumber
    untold: Sequence[int]
    revision: int


class Send(NamedTuple):
    """One message to one account, a part for each of its devices."""

    to: AccountId
    id: MessageId
    parts: Sequence[Part]


class Ack(NamedTuple):
    """The device has dealt with all envelopes up to `upto`. The senders of `untold` are not told
    ✓✓: what could not be opened, and what shows nothing or comes from a stranger."""

    upto: InboxNumber
    untold: Sequence[int]


class Welcome(NamedTuple):
    """Answer to hello. `cursor` and `head` bound what waits in the inbox; times in ms.
    `list_version` is that of the account's signed device list, 0 if it has none."""

    version: int
    server_time: int
    incarnation: int
    cursor: InboxNumber
    head: InboxNumber
    revision: int
    list_version: int = 0


class Sent(NamedTuple):
    """Every message to `to` up to `id` is durable. `at` is the server's time in ms."""

    to: AccountId
    id: MessageId
    at: int


class Refused(NamedTuple):
    """Message `id` to `to` was not taken; the id is free again. `detail` is for people.

    With the code `device-list`, `devices` are those the message must be addressed to, each with
    its incarnation, and `list_version` is that of the recipient's signed device list."""

    to: AccountId
    id: MessageId
    code: str
    detail: str
    retryable: bool
    devices: Sequence[tuple[DeviceId, int]] = ()
    list_version: int = 0


class Envelope(NamedTuple):
    """A message as it lies in a device's inbox. `at` is the server's time in ms."""

    number: InboxNumber
    sender: AccountId
    device: DeviceId
    incarnation: int
    id: MessageId
    at: int
    kind: int
    body: bytes


class Receipt(NamedTuple):
    """What became of messages to `peer`: `ranges` is lo, hi, lo, hi… of the ids of `device`, one
    of this account's, in that `incarnation` of it."""

    revision: int
    peer: AccountId
    outcome: Outcome
    ranges: Sequence[int]
    device: DeviceId
    incarnation: int


class Goodbye(NamedTuple):
    """The connection ends; come back after a random pause between the two (ms)."""

    code: str
    detail: str
    min_ms: int
    max_ms: int


class Devices(NamedTuple):
    """The devices of one's own account have changed, or its signed list, now of `version`."""

    version: int


ToServer = Hello | Send | Ack
ToDevice = Welcome | Sent | Refused | Envelope | Receipt | Goodbye | Devices

_pack: Callable[[object], bytes] = msgpack.Packer(autoreset=True).pack


def pack_hello(frame: Hello) -> bytes:
    return _pack((Type.HELLO, *frame[:3], bytes(frame.token), *frame[4:]))


def pack_send(frame: Send) -> bytes:
    return _pack((2, frame.to, frame.id, frame.parts))


def pack_ack(upto: int, untold: Sequence[int] = ()) -> bytes:
    return _pack((3, upto, untold))


def pack_welcome(frame: Welcome) -> bytes:
    return _pack((16, *frame))


def pack_sent(to: bytes, message: int, at: int) -> bytes:
    return _pack((17, to, message, at))


def pack_refused(frame: Refused) -> bytes:
    return _pack((18, *frame))


def pack_envelope(
    number: int,
    sender: bytes,
    device: int,
    incarnation: int,
    message: int,
    at: int,
    kind: int,
    body: bytes,
) -> bytes:
    """An envelope frame: encoded once, kept in the inbox and sent to the device as it is."""
    return _pack((19, number, sender, device, incarnation, message, at, kind, body))


def pack_receipt(
    revision: int,
    peer: bytes,
    outcome: int,
    ranges: Sequence[int],
    device: int,
    incarnation: int,
) -> bytes:
    return _pack((20, revision, peer, outcome, ranges, device, incarnation))


def pack_goodbye(frame: Goodbye) -> bytes:
    return _pack((21, *frame))


def pack_devices(version: int) -> bytes:
    return _pack((22, version))


def join(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Frames one after another in messages of at most the protocol's size and number."""
    batch: list[bytes] = []
    size = 0
    for frame in packed:
        if batch and (
            size + len(frame) > limits.FRAME_BYTES or len(batch) == limits.FRAMES_PER_MESSAGE
        ):
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(frame)
        size += len(frame)
    if batch:
        yield b"".join(batch)


def split(data: bytes | bytearray | memoryview) -> list[list[Any]]:
    """The frames of one WebSocket message as raw lists. Raises Malformed, TooLarge."""
    if len(data) > limits.FRAME_BYTES:
        raise TooLarge(f"A WebSocket message is at most {limits.FRAME_BYTES} bytes.")
    unpacker = msgpack.Unpacker(
        max_buffer_size=limits.FRAME_BYTES,
        max_array_len=limits.FRAMES_PER_MESSAGE * 2,
        max_map_len=0,
        max_ext_len=0,
    )
    frames: list[list[Any]] = []
    end = 0
    try:
        unpacker.feed(data)
        for frame in unpacker:
            if type(frame) is not list or not frame:
                raise Malformed("A frame is a non-empty msgpack array.")
            frames.append(frame)
            end = unpacker.tell()
        if end != len(data):
            raise Malformed("The last frame of the message is cut short.")
    except Malformed:
        raise
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed from error
    if len(frames) > limits.FRAMES_PER_MESSAGE:
        raise TooLarge(f"A WebSocket message holds at most {limits.FRAMES_PER_MESSAGE} frames.")
    return frames


def _count(value: object) -> int:
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    raise Malformed("A counter is an integer from 0 to 2^40-1.")


def _time(value: object) -> int:
    if type(value) is int and 0 <= value <= MAX_TIME:
        return value
    raise Malformed("A time is milliseconds since 1970.")


def _bytes(value: object, size: int) -> bytes:
    if type(value) is bytes and len(value) == size:
        return value
    raise Malformed(f"A field should be {size} bytes.")


def _device(value: object) -> DeviceId:
    if type(value) is int and 1 <= value <= MAX_DEVICE:
        return DeviceId(value)
    raise Malformed(f"A device is a number from 1 to {MAX_DEVICE}.")


def _text(value: object) -> str:
    if type(value) is str:
        return value
    raise Malformed("A field should be text.")


def _body(value: object) -> bytes:
    if type(value) is not bytes:
        raise Malformed("A body is bytes.")
    if len(value) > limits.ENVELOPE_BYTES:
        raise TooLarge(f"A message is at most {limits.ENVELOPE_BYTES} bytes per device.")
    return value


def _counts(value: object, most: int) -> list[int]:
    if type(value) is not list or len(value) > most:
        raise Malformed(f"A list of at most {most} numbers was expected.")
    return [_count(item) for item in value]


def _fields(frame: list[Any], count: int) -> list[Any]:
    if len(frame) <= count:
        raise Malformed(f"A frame of type {frame[0]} has {count} fields.")
    return frame


def _hello(frame: list[Any]) -> Hello:
    _, version, account, device, token, seen, untold, revision = _fields(frame, 7)[:8]
    if _count(version) != VERSION:
        raise Unsupported(f"This server speaks version {VERSION} of the protocol.")
    return Hello(
        version,
        AccountId(_bytes(account, ACCOUNT_BYTES)),
        _device(device),
        Secret(_bytes(token, TOKEN_BYTES)),
        InboxNumber(_count(seen)),
        _counts(untold, limits.UNTOLD_PER_ACK),
        _count(revision),
    )


def _send(frame: list[Any]) -> Send:
    _, to, message, parts = _fields(frame, 3)[:4]
    _bytes(to, ACCOUNT_BYTES)
    if _count(message) == 0:
        raise Malformed("Message ids start at 1.")
    if type(parts) is not list or not 0 < len(parts) <= limits.PARTS:
        raise Malformed(f"A message has 1 to {limits.PARTS} parts.")
    for part in parts:
        if type(part) is not list or len(part) != 4:
            raise Malformed("A part is device, incarnation, kind and body.")
        device, incarnation, kind, body = part
        _device(device)
        _count(incarnation)
        _count(kind)
        _body(body)
    return Send(to, message, parts)


def _ack(frame: list[Any]) -> Ack:
    _, upto, untold = _fields(frame, 2)[:3]
    return Ack(InboxNumber(_count(upto)), _counts(untold, limits.UNTOLD_PER_ACK) if untold else [])


def _welcome(frame: list[Any]) -> Welcome:
    _, version, at, incarnation, cursor, head, revision = _fields(frame, 6)[:7]
    return Welcome(
        _count(version),
        _time(at),
        _count(incarnation),
        InboxNumber(_count(cursor)),
        InboxNumber(_count(head)),
        _count(revision),
        _count(frame[7]) if len(frame) > 7 else 0,
    )


def _sent(frame: list[Any]) -> Sent:
    _, to, message, at = _fields(frame, 3)[:4]
    return Sent(AccountId(_bytes(to, 16)), MessageId(_count(message)), _time(at))


def _refused(frame: list[Any]) -> Refused:
    _, to, message, code, detail, retryable = _fields(frame, 5)[:6]
    return Refused(
        AccountId(_bytes(to, 16)),
        MessageId(_count(message)),
        _text(code),
        _text(detail),
        retryable is True,
        _listed(frame[6]) if len(frame) > 6 else (),
        _count(frame[7]) if len(frame) > 7 else 0,
    )


def _listed(value: object) -> tuple[tuple[DeviceId, int], ...]:
    """Devices with their incarnations."""
    if type(value) is not list or len(value) > MAX_DEVICE:
        raise Malformed("A list of devices was expected.")
    pairs = []
    for item in value:
        if type(item) is not list or len(item) < 2:
            raise Malformed("A device of a list is its number and its incarnation.")
        pairs.append((_device(item[0]), _count(item[1])))
    return tuple(pairs)


def _envelope(frame: list[Any]) -> Envelope:
    _, number, sender, device, incarnation, message, at, kind, body = _fields(frame, 8)[:9]
    return Envelope(
        InboxNumber(_count(number)),
        AccountId(_bytes(sender, 16)),
        _device(device),
        _count(incarnation),
        MessageId(_count(message)),
        _time(at),
        _count(kind),
        _body(body),
    )


def _receipt(frame: list[Any]) -> Receipt:
    _, revision, peer, outcome, ranges, device, incarnation = _fields(frame, 6)[:7]
    counts = _counts(ranges, limits.RECEIPT_RANGES * 2)
    if len(counts) % 2 or any(lo > hi for lo, hi in zip(counts[::2], counts[1::2], strict=True)):
        raise Malformed("Ranges are pairs of a first and a last number.")
    if outcome not in (0, 1):
        raise Malformed("An unknown outcome.")
    return Receipt(
        _count(revision),
        AccountId(_bytes(peer, 16)),
        Outcome(outcome),
        counts,
        _device(device),
        _count(incarnation),
    )


def _goodbye(frame: list[Any]) -> Goodbye:
    _, code, detail, low, high = _fields(frame, 4)[:5]
    return Goodbye(_text(code), _text(detail), _count(low), _count(high))


def _devices(frame: list[Any]) -> Devices:
    return Devices(_count(_fields(frame, 1)[1]))


_TO_SERVER: dict[object, Callable[[list[Any]], ToServer]] = {1: _hello, 2: _send, 3: _ack}
_TO_DEVICE: dict[object, Callable[[list[Any]], ToDevice]] = {
    16: _welcome,
    17: _sent,
    18: _refused,
    19: _envelope,
    20: _receipt,
    21: _goodbye,
    22: _devices,
}


def _decode(frame: list[Any], decoders: dict[object, Callable[[list[Any]], Any]]) -> Any:
    type_ = frame[0]
    decoder = decoders.get(type_) if type(type_) is int else None
    if decoder is None:
        raise Unsupported("A frame of an unknown type.")
    return decoder(frame)


def to_server(frame: list[Any]) -> ToServer:
    """One frame of a device. Raises Malformed, TooLarge, Unsupported."""
    return _decode(frame, _TO_SERVER)  # type: ignore[no-any-return]


def to_device(data: bytes) -> Iterator[ToDevice]:
    """The frames of one message from the server; unknown types are skipped. Raises Malformed."""
    for frame in split(data):
        if type(frame[0]) is int and frame[0] in _TO_DEVICE:
            yield _decode(frame, _TO_DEVICE)
