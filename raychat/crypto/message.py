"""What travels: the two messages of a session, byte for byte.

    SignalMessage        version byte | protobuf | 8-byte MAC
    PreKeySignalMessage  version byte | protobuf holding key material and a SignalMessage

The high nibble of the version byte is the version of the session (4: PQXDH), the low one is
ignored. "The Double Ratchet Algorithm", revision 3, section 3.1 calls the fields of a
SignalMessage the header; "The PQXDH Key Agreement Protocol", section 3.3, names the content of
a PreKeySignalMessage. The MAC covers both identity keys, so a message fits one pair of people.
Later fields may be added by newer peers: they are covered by the MAC and otherwise ignored.
"""

from __future__ import annotations

import enum
import hmac
from typing import Final, NamedTuple, Self

from raychat.crypto.curve import PUBLIC_BYTES, PublicKey
from raychat.crypto.kem import CIPHERTEXT_BYTES as KYBER_BYTES
from raychat.crypto.protobuf import LENGTH, VARINT, bytes_field, number_field, parse, varint
from raychat.errors import BadMac, InvalidKey, InvalidMessage, LegacyVersion, UnknownVersion
from raychat.ids import Address
from raychat.limits import CIPHERTEXT_BYTES

VERSION: Final = 4
MAC_BYTES: Final = 8

_VERSION_BYTE: Final = bytes((VERSION << 4 | 4,))
# What stands before each field of a SignalMessage, made once since it is written so often.
_TAGS: Final = {
    field: varint(field << 3 | kind)
    for field, kind in (
        (1, LENGTH),
        (2, VARINT),
        (3, VARINT),
        (4, LENGTH),
        (5, LENGTH),
        (6, LENGTH),
    )
}
_BEFORE_KEY: Final = _VERSION_BYTE + _TAGS[1] + varint(PUBLIC_BYTES)
_SIGNAL_NUMBERS: Final = frozenset((2, 3))
_SIGNAL_STRINGS: Final = frozenset((1, 4, 5, 6))
_PRE_KEY_NUMBERS: Final = frozenset((1, 5, 6, 7))
_PRE_KEY_STRINGS: Final = frozenset((2, 3, 4, 8))


class MessageKind(enum.IntEnum):
    """What a ciphertext is; it travels beside it. The numbers are Signal's."""

    WHISPER = 2
    """A SignalMessage of an established session."""
    PRE_KEY = 3
    """A PreKeySignalMessage, which also starts the session."""


class CiphertextMessage(NamedTuple):
    """An encrypted message: hand both parts to the peer."""

    kind: MessageKind
    body: bytes


class SignalMessage(NamedTuple):
    """One ratchet message. `body` is all of it, with version byte and MAC."""

    ratchet_key: PublicKey
    counter: int
    previous_counter: int
    ciphertext: bytes
    pq_ratchet: bytes
    addresses: bytes
    body: bytes

    @classmethod
    def seal(
        cls,
        *,
        ratchet_key: PublicKey,
        counter: int,
        previous_counter: int,
        ciphertext: bytes,
        pq_ratchet: bytes,
        addresses: bytes,
        mac_key: bytes,
        sender: PublicKey,
        receiver: PublicKey,
    ) -> Self:
        """Write the message and its MAC. An empty `pq_ratchet` or `addresses` is left out."""
        parts = [_BEFORE_KEY, ratchet_key.data, _TAGS[2], varint(counter)]
        parts += (_TAGS[3], varint(previous_counter))
        parts += (_TAGS[4], varint(len(ciphertext)), ciphertext)
        if pq_ratchet:
            parts += (_TAGS[5], varint(len(pq_ratchet)), pq_ratchet)
        if addresses:
            parts += (_TAGS[6], varint(len(addresses)), addresses)
        content = b"".join(parts)
        body = content + _mac(mac_key, sender, receiver, content)
        return cls(ratchet_key, counter, previous_counter, ciphertext, pq_ratchet, addresses, body)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidMessage, LegacyVersion, UnknownVersion."""
        _check_version(body)
        if len(body) < 1 + MAC_BYTES:
            raise InvalidMessage("The message is shorter than its MAC.")
        numbers, strings = parse(body[1:-MAC_BYTES], _SIGNAL_NUMBERS, _SIGNAL_STRINGS)
        try:
            return cls(
                ratchet_key=_public_key(strings[1]),
                counter=numbers[2],
                previous_counter=numbers.get(3, 0),
                ciphertext=strings[4],
                pq_ratchet=strings.get(5, b""),
                addresses=strings.get(6, b""),
                body=body,
            )
        except KeyError as missing:
            raise _missing(missing) from None

    def verify(self, mac_key: bytes, sender: PublicKey, receiver: PublicKey) -> None:
        """Raises BadMac unless this was written with `mac_key` by `sender` to `receiver`."""
        expected = _mac(mac_key, sender, receiver, self.body[:-MAC_BYTES])
        if not hmac.compare_digest(expected, self.body[-MAC_BYTES:]):
            raise BadMac

    def check_addresses(self, sender: Address, receiver: Address) -> None:
        """Raises InvalidMessage if the message names other addresses; naming none is fine."""
        if self.addresses and self.addresses != address_pair(sender, receiver):
            raise InvalidMessage("The message was written for other addresses.")


class PreKeySignalMessage(NamedTuple):
    """A SignalMessage with all that its receiver needs to start the session."""

    registration_id: int
    pre_key_id: int | None
    signed_pre_key_id: int
    kyber_pre_key_id: int
    kyber_ciphertext: bytes
    base_key: PublicKey
    identity_key: PublicKey
    message: SignalMessage

    def to_bytes(self) -> bytes:
        one_time = b"" if self.pre_key_id is None else number_field(1, self.pre_key_id)
        return (
            _VERSION_BYTE
            + one_time
            + bytes_field(2, self.base_key.data)
            + bytes_field(3, self.identity_key.data)
            + bytes_field(4, self.message.body)
            + number_field(5, self.registration_id)
            + number_field(6, self.signed_pre_key_id)
            + number_field(7, self.kyber_pre_key_id)
            + bytes_field(8, self.kyber_ciphertext)
        )

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidMessage, LegacyVersion, UnknownVersion."""
        _check_version(body)
        numbers, strings = parse(body[1:], _PRE_KEY_NUMBERS, _PRE_KEY_STRINGS)
        try:
            kyber_ciphertext = strings[8]
            if len(kyber_ciphertext) != KYBER_BYTES:
                raise InvalidMessage(f"The Kyber ciphertext is not {KYBER_BYTES} bytes.")
            return cls(
                registration_id=numbers.get(5, 0),
                pre_key_id=numbers.get(1),
                signed_pre_key_id=numbers[6],
                kyber_pre_key_id=numbers[7],
                kyber_ciphertext=kyber_ciphertext,
                base_key=_public_key(strings[2]),
                identity_key=_public_key(strings[3]),
                message=SignalMessage.parse(strings[4]),
            )
        except KeyError as missing:
            raise _missing(missing) from None


def address_pair(sender: Address, receiver: Address) -> bytes:
    """The 36 bytes that bind a message to two devices: kind (0: account), account, device."""
    return b"".join(
        b"\x00" + address.account + bytes((address.device,)) for address in (sender, receiver)
    )


def _check_version(body: bytes) -> None:
    if not body or len(body) > CIPHERTEXT_BYTES:
        raise InvalidMessage(f"A message has 1 to {CIPHERTEXT_BYTES} bytes.")
    version = body[0] >> 4
    if version < VERSION:
        raise LegacyVersion(f"The message is of version {version}; {VERSION} is spoken here.")
    if version > VERSION:
        raise UnknownVersion(f"The message is of version {version}; {VERSION} is spoken here.")


def _mac(key: bytes, sender: PublicKey, receiver: PublicKey, content: bytes) -> bytes:
    return hmac.digest(key, sender.data + receiver.data + content, "sha256")[:MAC_BYTES]


def _public_key(data: bytes) -> PublicKey:
    try:
        return PublicKey(data)
    except InvalidKey as error:
        raise InvalidMessage(f"The message holds an unusable key: {error.detail}") from None


def _missing(field: KeyError) -> InvalidMessage:
    return InvalidMessage(f"The message has no field {field.args[0]}.")
