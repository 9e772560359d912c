"""Sealed sender, version 2: one ciphertext for many readers, with 48 bytes for each of them.

    M            32 random bytes
    r, K       = HKDF(M, "Sealed Sender v2: r (2023-08)"), HKDF(M, "Sealed Sender v2: K")
    E          = public key of the private key r
    ciphertext = AES-256-GCM-SIV(K, content)
    C          = M xor HKDF(DH(E, R) | E | R, "Sealed Sender v2: DH")             for a reader R
    AT         = HKDF(DH(S, R) | E | C | S | R, "Sealed Sender v2: DH-sender")    and sender S

    received form: 0x22 | C | AT | E (32 bytes) | ciphertext

The construction is the multi-recipient encryption of Barbosa (2005) with the re-derivation of
E from M as its integrity check. AT is 16 bytes and proves the sender to each reader. A zero
nonce is right because K serves one plaintext. The exclusive or of Python integers takes a time
that depends on their leading zeros: it could tell that M, which serves once, begins with 30
zero bits.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from raychat.crypto.curve import PREFIX, KeyPair, PrivateKey, PublicKey
from raychat.crypto.kdf import hkdf
from raychat.crypto.sealed_content import SealedContent
from raychat.errors import BadMac, InvalidKey, InvalidMessage

VERSION: Final = 2
VERSION_BYTE: Final = b"\x22"
KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
MATERIAL_BYTES: Final = KEY_BYTES + TAG_BYTES

_NONCE: Final = bytes(12)
_EPHEMERAL_LABEL: Final = b"Sealed Sender v2: r (2023-08)"
_KEY_LABEL: Final = b"Sealed Sender v2: K"
_READER_LABEL: Final = b"Sealed Sender v2: DH"
_SENDER_LABEL: Final = b"Sealed Sender v2: DH-sender"
_HEAD_BYTES: Final = 1 + MATERIAL_BYTES + KEY_BYTES


class SealedV2(NamedTuple):
    """`materials` are C and AT for each reader in turn; `shared` is E and the ciphertext."""

    materials: list[bytes]
    shared: bytes


def seal_v2(sender: KeyPair, readers: Sequence[PublicKey], content: SealedContent) -> SealedV2:
    """Raises InvalidKey for a reader's key that contributes nothing."""
    secret = os.urandom(KEY_BYTES)
    ephemeral = _ephemeral(secret)
    ciphertext = _aead(secret).encrypt(_NONCE, content.to_bytes(), None)
    materials = []
    for reader in readers:
        agreed = ephemeral.private.agree(reader)
        wrapped = _xor(secret, _reader_mask(agreed, ephemeral.public, reader))
        agreed = sender.private.agree(reader)
        materials.append(
            wrapped + _sender_tag(agreed, ephemeral.public, wrapped, sender.public, reader)
        )
    return SealedV2(materials, ephemeral.public.data[1:] + ciphertext)


def open_v2(reader: KeyPair, data: bytes) -> SealedContent:
    """The content; its certificate names the key of who sealed it, and is not checked further.

    `data` has a version byte that has been looked at. Raises InvalidMessage, of which BadMac.
    """
    if len(data) < _HEAD_BYTES + TAG_BYTES:
        raise InvalidMessage("The sealed message is too short.")
    wrapped, tag = data[1 : 1 + KEY_BYTES], data[1 + KEY_BYTES : 1 + MATERIAL_BYTES]
    written = PublicKey(bytes((PREFIX,)) + data[1 + MATERIAL_BYTES : _HEAD_BYTES])
    try:
        agreed = reader.private.agree(written)
        secret = _xor(wrapped, _reader_mask(agreed, written, reader.public))
        if not hmac.compare_digest(_ephemeral(secret).public.data, written.data):
            raise BadMac("The sealed message is damaged or meant for another key.")
        content = SealedContent.parse(_aead(secret).decrypt(_NONCE, data[_HEAD_BYTES:], None))
        sender = content.certificate.key
        agreed = reader.private.agree(sender)
    except InvalidTag:
        raise BadMac from None
    except InvalidKey as error:
        raise InvalidMessage(f"The message holds an unusable key: {error.detail}") from None
    expected = _sender_tag(agreed, written, wrapped, sender, reader.public)
    if not hmac.compare_digest(expected, tag):
        raise BadMac("The message was not sealed by the sender that its certificate names.")
    return content


def _ephemeral(secret: bytes) -> KeyPair:
    return KeyPair.of(PrivateKey(hkdf(secret, _EPHEMERAL_LABEL, KEY_BYTES)))


def _aead(secret: bytes) -> AESGCMSIV:
    return AESGCMSIV(hkdf(secret, _KEY_LABEL, KEY_BYTES))


def _reader_mask(agreed: bytes, ephemeral: PublicKey, reader: PublicKey) -> bytes:
    return hkdf(agreed + ephemeral.data + reader.data, _READER_LABEL, KEY_BYTES)


def _sender_tag(
    agreed: bytes, ephemeral: PublicKey, wrapped: bytes, sender: PublicKey, reader: PublicKey
) -> bytes:
    secret = agreed + ephemeral.data + wrapped + sender.data + reader.data
    return hkdf(secret, _SENDER_LABEL, TAG_BYTES)


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return number.to_bytes(len(left), "big")
