"""What is in the log, what is in the map, and the signed head over both.

All numbers are big-endian, 8 bytes; times are milliseconds since 1970.

    label    SHA-256("raychat account" 00 | account)
    chain    of no lists 32 zero bytes; of more SHA-256("raychat chain" 00 | chain | list hash)
    value    SHA-256("raychat entry" 00 | counter | epoch | chain)
    epoch    "raychat epoch" 00 | number | time | map root: a leaf of the log
    head     01 | size | log root | map root | time | signature
             the signature is Ed25519 by the log's key over "raychat head" 00 and what is before it
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Final, NamedTuple, Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from raychat.errors import BadProof, BadSignature, Malformed
from raychat.ids import AccountId
from raychat.transparency import merkle

KEY_BYTES: Final = 32
NO_LISTS: Final = bytes(32)
MAX_TIME: Final = 2**53 - 1
MAX_COUNTER: Final = 2**53 - 1

_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">BQ32s32sQ")
_SIGNATURE_BYTES: Final = 64
HEAD_BYTES: Final = _HEAD.size + _SIGNATURE_BYTES


def label_of(account: AccountId) -> bytes:
    """Where the map has an account. Account ids are random, so no label can be guessed."""
    return hashlib.sha256(b"raychat account\x00" + account).digest()


def chained(chain: bytes, list_hashes: Iterable[bytes]) -> bytes:
    """A chain hash with more device lists after it."""
    return reduce(_link, list_hashes, chain)


def _link(chain: bytes, list_hash: bytes) -> bytes:
    return hashlib.sha256(b"raychat chain\x00" + chain + list_hash).digest()


class Entry(NamedTuple):
    """What the map says of an account: how many device lists it has had, in which epoch the last
    one came, and the chain hash of all of them."""

    counter: int
    epoch: int
    chain: bytes

    def value(self) -> bytes:
        numbers = struct.pack(">QQ", self.counter, self.epoch)
        return hashlib.sha256(b"raychat entry\x00" + numbers + self.chain).digest()


class Epoch(NamedTuple):
    """One leaf of the log: the map as it was after some changes. The first one is number 1."""

    number: int
    time: int
    map_root: bytes

    def leaf(self) -> bytes:
        numbers = struct.pack(">QQ", self.number, self.time)
        return merkle.leaf_hash(b"raychat epoch\x00" + numbers + self.map_root)


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The whole log in 145 bytes: two of them that do not fit together are evidence."""

    size: int
    root: bytes
    map_root: bytes
    time: int
    signature: bytes

    @classmethod
    def sign(cls, size: int, root: bytes, map_root: bytes, time: int, key: SigningKey) -> Self:
        signature = key.sign(_signed(size, root, map_root, time)).signature
        return cls(size, root, map_root, time, signature)

    def verify(self, key: bytes) -> None:
        """Raises BadSignature unless the log's key (32 bytes) has signed it."""
        try:
            VerifyKey(key).verify(
                _signed(self.size, self.root, self.map_root, self.time), self.signature
            )
        except (BadSignatureError, ValueError, TypeError):
            raise BadSignature("The head of the log is not signed by the log's key.") from None

    def to_bytes(self) -> bytes:
        head = _HEAD.pack(_FORMAT, self.size, self.root, self.map_root, self.time)
        return head + self.signature

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """A head from outside, not verified yet. Raises Malformed."""
        if len(data) != HEAD_BYTES or data[0] != _FORMAT:
            raise Malformed("That is not the head of a log.")
        _, size, root, map_root, time = _HEAD.unpack(data[: _HEAD.size])
        if size > merkle.MAX_SIZE or time > MAX_TIME:
            raise Malformed("A number in the head of the log is out of range.")
        return cls(size, root, map_root, time, data[_HEAD.size :])

    def digest(self) -> bytes:
        """SHA-256 of the state it is of, without the time: people and messages compare it. The
        same for all who see the same log at the same size."""
        state = struct.pack(">Q", self.size) + self.root + self.map_root
        return hashlib.sha256(b"raychat head digest\x00" + state).digest()

    def __repr__(self) -> str:
        return f"SignedHead(size={self.size})"


def follow(kept: SignedHead | None, new: SignedHead, path: tuple[bytes, ...], key: bytes) -> None:
    """Whether a new head continues the log whose head was kept.

    Raises BadSignature for another signer, BadProof if it does not: then both heads, which the
    log's keeper has signed, prove that it showed two histories.
    """
    new.verify(key)
    if kept is None:
        if path:
            raise BadProof("A proof of consistency came with nothing to be consistent with.")
        return
    if kept.size == new.size and kept.map_root != new.map_root:
        raise BadProof("The log has two maps at the same size.")
    merkle.check_consistency(kept.size, kept.root, new.size, new.root, path)


def _signed(size: int, root: bytes, map_root: bytes, time: int) -> bytes:
    return b"raychat head\x00" + _HEAD.pack(_FORMAT, size, root, map_root, time)
