"""Link batches: what a gateway and a host, or two hosts, say to each other.

On the stream each message is a 4-byte big-endian length and a msgpack array.

Greeting, in this order (the *dialer* opened the connection)::

    dialer    ["raychat-link", 1, name, incarnation, nonce]
    listener  [name, incarnation, nonce, proof, accepted]
    dialer    [proof, accepted]

`incarnation` is 16 random bytes of a process, `nonce` 16 of a greeting, `proof` is
HMAC-SHA256 under the cluster secret over role, both names, incarnations and nonces.
`accepted` is the last batch that was taken from *this incarnation* of the other side, 0 if none.

Then batches ``[sequence, done, items]``: sequence 1, 2, 3… (0: a heartbeat, without items), `done`
the last batch of the other side that is dealt with for good. Until then the sender keeps it,
and sends it again over the next connection if it was not accepted. A receiver drops
a batch it has accepted already.

Items are arrays that begin with an `Op`; the table in `Op` lists their fields.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from raychat import limits
from raychat.errors import Denied, Malformed, TooLarge, Unsupported
from raychat.ids import Secret

MAGIC: Final = "raychat-link"
VERSION: Final = 1
NONCE_BYTES: Final = 16
HEADER: Final = struct.Struct(">I")

Item = Sequence[Any]


class Op(IntEnum):
    """First element of an item; the rest of its fields in order."""

    # gateway to host
    ATTACH = 1  # session, account, device, token hash, seen, untold, revision, again
    DETACH = 2  # session, account, device
    SEND = 3  # session, to, sender, device, incarnation, message id, parts
    ACK = 4  # session, account, device, upto, untold
    REQUEST = 5  # number, verb, account, arguments
    # host to gateway
    DATA = 16  # session, frames
    RECEIPT = 17  # session, frame, revision
    ADMIT = 18  # session, frame, incarnation
    DISMISS = 19  # session, close code, error code, detail
    ANSWER = 20  # number, error code or None, result or detail
    # host to host
    TOLD = 32  # owed, account, device, incarnation, peer, outcome, lo, hi
    PAID = 33  # owed: the news is durable where it belongs


class Greeting(NamedTuple):
    """One side of a greeting. `role` is b"d" for the dialer, b"l" for the listener."""

    name: str
    incarnation: bytes
    nonce: bytes


def new_nonce() -> bytes:
    return os.urandom(NONCE_BYTES)


def proof(secret: Secret, role: bytes, dialer: Greeting, listener: Greeting) -> bytes:
    """What shows that `role` knows the cluster secret, in this greeting only."""
    fields = (role, *dialer, *listener)
    return hmac.digest(secret, msgpack.packb(("raychat link", *fields)), "sha256")


def check_proof(
    given: object, secret: Secret, role: bytes, dialer: Greeting, listener: Greeting
) -> None:
    """Raises Denied."""
    expected = proof(secret, role, dialer, listener)
    if type(given) is not bytes or not hmac.compare_digest(given, expected):
        raise Denied("The other end of the link does not know the cluster secret.")


def pack(message: Sequence[Any]) -> bytes:
    """One message with its length in front."""
    body: bytes = msgpack.packb(message)
    return HEADER.pack(len(body)) + body


class Splitter:
    """Cuts the stream into messages. Raises TooLarge, Malformed; the link is then closed."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= 4:
                (size,) = HEADER.unpack_from(buffer, start)
                if size > limits.LINK_BATCH_BYTES:
                    raise TooLarge("A link batch is over the limit.")
                if end - start - 4 < size:
                    break
                with memoryview(buffer) as view:
                    message = _unpack(view[start + 4 : start + 4 + size])
                start += 4 + size
                yield message
        finally:
            del buffer[:start]


def _unpack(data: memoryview) -> list[Any]:
    try:
        message = msgpack.unpackb(data, max_map_len=1024, max_ext_len=0)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("A link message is not msgpack.") from error
    if type(message) is not list:
        raise Malformed("A link message is an array.")
    return message


def read_hello(message: list[Any]) -> Greeting:
    """The dialer's first message. Raises Malformed, Unsupported."""
    match message:
        case [str(magic), int(version), str(name), bytes(incarnation), bytes(nonce)] if (
            magic == MAGIC and len(incarnation) == len(nonce) == NONCE_BYTES and len(name) < 256
        ):
            if version != VERSION:
                raise Unsupported("The other end of the link speaks another version.")
            return Greeting(name, incarnation, nonce)
    raise Malformed("That is not the greeting of a link.")


def read_answer(message: list[Any]) -> tuple[Greeting, bytes, int]:
    """The listener's message: who it is, its proof, the last batch it accepted."""
    match message:
        case [str(name), bytes(incarnation), bytes(nonce), bytes(given), int(accepted)] if (
            len(incarnation) == len(nonce) == NONCE_BYTES and accepted >= 0
        ):
            return Greeting(name, incarnation, nonce), given, accepted
    raise Malformed("That is not the answer of a link.")


def read_end(message: list[Any]) -> tuple[bytes, int]:
    """The dialer's second message: its proof, the last batch it accepted."""
    match message:
        case [bytes(given), int(accepted)] if accepted >= 0:
            return given, accepted
    raise Malformed("That is not the end of a greeting.")


def read_batch(message: list[Any]) -> tuple[int, int, list[Any]]:
    match message:
        case [int(sequence), int(done), list(items)] if sequence >= 0 and done >= 0:
            return sequence, done, items
    raise Malformed("That is not a link batch.")


class Outgoing:
    """The sending half of a link: numbers batches and keeps them until they are done."""

    __slots__ = ("next", "tail", "tail_bytes")

    def __init__(self) -> None:
        self.next = 1
        self.tail: deque[tuple[int, list[Item], int]] = deque()
        self.tail_bytes = 0

    def add(self, items: list[Item], size: int) -> int:
        """Take a batch of about `size` bytes; returns its number."""
        sequence = self.next
        self.next += 1
        self.tail.append((sequence, items, size))
        self.tail_bytes += size
        return sequence

    def done(self, sequence: int) -> None:
        """Let go of everything up to a number."""
        tail = self.tail
        while tail and tail[0][0] <= sequence:
            self.tail_bytes -= tail.popleft()[2]

    def drop(self) -> None:
        self.tail.clear()
        self.tail_bytes = 0

    def after(self, accepted: int) -> list[tuple[int, list[Item]]]:
        """What a peer that accepted up to a number has to get again."""
        return [(sequence, items) for sequence, items, _ in self.tail if sequence > accepted]


class Incoming:
    """The receiving half: `accepted` is taken, `done` is dealt with; done ≤ accepted."""

    __slots__ = ("accepted", "done")

    def __init__(self) -> None:
        self.accepted = 0
        self.done = 0

    def accept(self, sequence: int) -> bool:
        """Whether a batch is new. The first one of a peer may carry any number. Raises
        Malformed if one is missing, which an ordered stream cannot cause."""
        if self.accepted and sequence != self.accepted + 1:
            if sequence <= self.accepted:
                return False
            raise Malformed("A link batch is missing.")
        self.accepted = sequence
        return True
