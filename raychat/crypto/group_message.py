"""What travels in a group: a sender's key, and the messages under it, byte for byte.

    SenderKeyDistribution  version byte | protobuf
    SenderKeyMessage       version byte | protobuf | 64-byte signature of both

A distribution hands over the chain key of one sender as it is now, with the public key that
signs its messages. It has no protection of its own and holds a secret: it only ever travels
inside a message of a 1:1 session. A message is written once for everybody who has the key.

Sender keys have no published specification; this is their form in Signal's messages, whose
high nibble of the version byte is 3. Fields added by newer peers are covered by the signature
and otherwise ignored.
"""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple, NewType, Self

from raychat.crypto.curve import SIGNATURE_BYTES, PrivateKey, PublicKey
from raychat.crypto.protobuf import bytes_field, number_field, parse
from raychat.errors import InvalidKey, InvalidMessage, LegacyVersion, UnknownVersion
from raychat.limits import CIPHERTEXT_BYTES

DistributionId = NewType("DistributionId", bytes)
"""16 raw bytes of a random UUID: names the keys that belong to one group."""

VERSION: Final = 3
CHAIN_KEY_BYTES: Final = 32
DISTRIBUTION_ID_BYTES: Final = 16

_VERSION_BYTE: Final = bytes((VERSION << 4 | 3,))
_NUMBERS: Final = frozenset((2, 3))
_MESSAGE_STRINGS: Final = frozenset((1, 4))
_DISTRIBUTION_STRINGS: Final = frozenset((1, 4, 5))


def new_distribution_id() -> DistributionId:
    return DistributionId(uuid.uuid4().bytes)


class SenderKeyDistribution(NamedTuple):
    """One sender's key from message `iteration` on; earlier messages stay closed to it."""

    distribution: DistributionId
    chain_id: int
    iteration: int
    chain_key: bytes
    signing_key: PublicKey

    def to_bytes(self) -> bytes:
        return (
            _VERSION_BYTE
            + bytes_field(1, self.distribution)
            + number_field(2, self.chain_id)
            + number_field(3, self.iteration)
            + bytes_field(4, self.chain_key)
            + bytes_field(5, self.signing_key.data)
        )

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidMessage, LegacyVersion, UnknownVersion."""
        _check_version(body)
        numbers, strings = parse(body[1:], _NUMBERS, _DISTRIBUTION_STRINGS)
        try:
            chain_key, signing_key = strings[4], strings[5]
            if len(chain_key) != CHAIN_KEY_BYTES:
                raise InvalidMessage(f"The chain key is not {CHAIN_KEY_BYTES} bytes.")
            return cls(
                _distribution(strings[1]),
                chain_id=numbers[2],
                iteration=numbers[3],
                chain_key=chain_key,
                signing_key=PublicKey(signing_key),
            )
        except KeyError as missing:
            raise _missing(missing) from None
        except InvalidKey as error:
            raise InvalidMessage(f"The signing key is unusable: {error.detail}") from None

    def __repr__(self) -> str:
        return f"SenderKeyDistribution(chain_id={self.chain_id}, iteration={self.iteration})"


class SenderKeyMessage(NamedTuple):
    """One message to a group. `body` is all of it, with version byte and signature."""

    distribution: DistributionId
    chain_id: int
    iteration: int
    ciphertext: bytes
    body: bytes

    @classmethod
    def seal(
        cls,
        *,
        distribution: DistributionId,
        chain_id: int,
        iteration: int,
        ciphertext: bytes,
        signing_key: PrivateKey,
    ) -> Self:
        """Write the message and sign it."""
        content = (
            _VERSION_BYTE
            + bytes_field(1, distribution)
            + number_field(2, chain_id)
            + number_field(3, iteration)
            + bytes_field(4, ciphertext)
        )
        body = content + signing_key.sign(content)
        return cls(distribution, chain_id, iteration, ciphertext, body)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidMessage, LegacyVersion, UnknownVersion. Nothing is verified yet."""
        _check_version(body)
        if len(body) < 1 + SIGNATURE_BYTES:
            raise InvalidMessage("The message is shorter than its signature.")
        numbers, strings = parse(body[1:-SIGNATURE_BYTES], _NUMBERS, _MESSAGE_STRINGS)
        try:
            return cls(
                _distribution(strings[1]),
                chain_id=numbers[2],
                iteration=numbers[3],
                ciphertext=strings[4],
                body=body,
            )
        except KeyError as missing:
            raise _missing(missing) from None

    def verify(self, signing_key: PublicKey) -> None:
        """Raises BadSignature unless the holder of `signing_key` wrote this message."""
        signing_key.verify(self.body[:-SIGNATURE_BYTES], self.body[-SIGNATURE_BYTES:])


def _check_version(body: bytes) -> None:
    if not body or len(body) > CIPHERTEXT_BYTES:
        raise InvalidMessage(f"A message has 1 to {CIPHERTEXT_BYTES} bytes.")
    version = body[0] >> 4
    if version < VERSION:
        raise LegacyVersion(f"The message is of version {version}; {VERSION} is spoken here.")
    if version > VERSION:
        raise UnknownVersion(f"The message is of version {version}; {VERSION} is spoken here.")


def _distribution(data: bytes) -> DistributionId:
    if len(data) != DISTRIBUTION_ID_BYTES:
        raise InvalidMessage(f"A distribution id is {DISTRIBUTION_ID_BYTES} bytes.")
    return DistributionId(data)


def _missing(field: KeyError) -> InvalidMessage:
    return InvalidMessage(f"The message has no field {field.args[0]}.")
