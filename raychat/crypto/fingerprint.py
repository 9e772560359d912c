"""Safety numbers: what two people compare to know that nobody sits between them.

    hash   h = SHA-512(00 00 | key | id | key), then 5,199 times h = SHA-512(h | key)
    text   the first 30 bytes of each hash as six groups of five digits, the lower half first
    code   a protobuf with the version and the first 32 bytes of both hashes, for a QR code

`key` is the 33-byte identity key and `id` a name of its owner that never changes. A code of
version 1 is made with phone numbers, one of version 2 with account ids; the version is a
convention between apps and stands in the code only, so a text says nothing about it.

The many rounds make it dear to search for a key whose number looks like another one's: half a
text is worth 99.7 bits, and each try costs 5,200 hashes. Both sides see the same text. A code
names its maker's half first, so each side sees the other's halves crossed.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Self

from raychat.crypto.curve import PublicKey
from raychat.crypto.protobuf import bytes_field, number_field, parse
from raychat.errors import InvalidMessage, LegacyVersion, UnknownVersion
from raychat.ids import AccountId

ITERATIONS: Final = 5_200
PHONE_NUMBERS: Final = 1
ACCOUNTS: Final = 2

_HASH_VERSION: Final = b"\x00\x00"
_HALF_BYTES: Final = 32
_GROUPS: Final = range(0, 30, 5)
_CODE_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class SafetyNumber:
    """The safety number of two people: the first 32 bytes of the hash of each."""

    local: bytes
    remote: bytes
    version: int = ACCOUNTS

    @classmethod
    def of(
        cls,
        local_id: AccountId,
        local_key: PublicKey,
        remote_id: AccountId,
        remote_key: PublicKey,
    ) -> Self:
        """The number of two accounts (version 2). Takes some milliseconds."""
        return cls(half(local_id, local_key), half(remote_id, remote_key))

    @property
    def text(self) -> str:
        """60 digits, the same on both sides."""
        return "".join(sorted((_digits(self.local), _digits(self.remote))))

    @property
    def groups(self) -> list[str]:
        """The text as twelve groups of five digits, as people read it out."""
        text = self.text
        return [text[at : at + 5] for at in range(0, len(text), 5)]

    @property
    def code(self) -> bytes:
        """The content of a QR code for the other person to scan."""
        return (
            number_field(1, self.version)
            + bytes_field(2, bytes_field(1, self.local))
            + bytes_field(3, bytes_field(1, self.remote))
        )

    def matches(self, scanned: bytes) -> bool:
        """Whether the code on the other person's screen belongs to the same two keys.

        Raises InvalidMessage for what is no such code, and LegacyVersion or UnknownVersion if
        the other app makes another kind: then compare the texts.
        """
        version, their_local, their_remote = _parsed(scanned)
        if version < self.version:
            raise LegacyVersion("The code is of an older version; compare the digits instead.")
        if version > self.version:
            raise UnknownVersion("The code is of a newer version; compare the digits instead.")
        return hmac.compare_digest(their_local + their_remote, self.remote + self.local)


def half(stable_id: bytes, key: PublicKey) -> bytes:
    """One person's half of a safety number."""
    sha512, written = hashlib.sha512, key.data
    digest = sha512(_HASH_VERSION + written + stable_id + written).digest()
    for _ in range(ITERATIONS - 1):
        digest = sha512(digest + written).digest()
    return digest[:_HALF_BYTES]


def _digits(digest: bytes) -> str:
    groups = (int.from_bytes(digest[at : at + 5], "big") % 100_000 for at in _GROUPS)
    return "".join(f"{group:05}" for group in groups)


def _parsed(code: bytes) -> tuple[int, bytes, bytes]:
    if len(code) > _CODE_LIMIT:
        raise InvalidMessage("That is not the code of a safety number.")
    numbers, strings = parse(code, {1}, {2, 3})
    halves = [parse(strings.get(field, b""), set(), {1})[1].get(1, b"") for field in (2, 3)]
    if 1 not in numbers or any(len(each) != _HALF_BYTES for each in halves):
        raise InvalidMessage("That is not the code of a safety number.")
    return numbers[1], halves[0], halves[1]
