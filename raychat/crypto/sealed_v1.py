"""Sealed sender, version 1: one message for one reader, in two layers.

    0x11 | protobuf (ephemeral key, encrypted static key, encrypted content)

    outer  chain | cipher | mac = HKDF(salt "UnidentifiedDelivery" | reader | ephemeral,
                                       DH(ephemeral, reader), 96)
    inner  …     | cipher | mac = HKDF(salt chain | encrypted static key,
                                       DH(sender, reader), 96)

The outer layer encrypts the sender's identity key, the inner one the content. Each is AES-256
in counter mode from zero, under a key used once, and ends in the first 10 bytes of an
HMAC-SHA256. The scheme is that of "Technology preview: Sealed sender for Signal".

The inner layer is what proves the sender. It doesn't prove it to others, and it does not
protect the past: who learns the reader's identity key later learns the senders of messages
that were recorded. What the messages say is protected by their sessions.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.kdf import hkdf
from raychat.crypto.protobuf import bytes_field, parse
from raychat.crypto.sealed_content import SealedContent
from raychat.errors import BadMac, InvalidKey, InvalidMessage

VERSION: Final = 1
MAC_BYTES: Final = 10

_VERSION_BYTE: Final = bytes((VERSION << 4 | 1,))
_SALT: Final = b"UnidentifiedDelivery"
_STRINGS: Final = frozenset((1, 2, 3))


def seal_v1(sender: KeyPair, reader: PublicKey, content: SealedContent) -> bytes:
    """Raises InvalidKey for a reader's key that contributes nothing."""
    ephemeral = KeyPair.generate()
    salt = _SALT + reader.data + ephemeral.public.data
    chain, cipher, mac = _keys(ephemeral.private.agree(reader), salt)
    static = _encrypt(cipher, mac, sender.public.data)
    _, cipher, mac = _keys(sender.private.agree(reader), chain + static)
    return (
        _VERSION_BYTE
        + bytes_field(1, ephemeral.public.data)
        + bytes_field(2, static)
        + bytes_field(3, _encrypt(cipher, mac, content.to_bytes()))
    )


def open_v1(reader: KeyPair, data: bytes) -> SealedContent:
    """The content; its certificate names the key of who sealed it, and is not checked further.

    `data` has a version byte that has been looked at. Raises InvalidMessage, of which BadMac.
    """
    _, strings = parse(data[1:], set(), _STRINGS)
    try:
        ephemeral, static, encrypted = PublicKey(strings[1]), strings[2], strings[3]
        salt = _SALT + reader.public.data + ephemeral.data
        chain, cipher, mac = _keys(reader.private.agree(ephemeral), salt)
        sender = PublicKey(_decrypt(cipher, mac, static))
        _, cipher, mac = _keys(reader.private.agree(sender), chain + static)
    except KeyError as missing:
        raise InvalidMessage(f"The message has no field {missing.args[0]}.") from None
    except InvalidKey as error:
        raise InvalidMessage(f"The message holds an unusable key: {error.detail}") from None
    content = SealedContent.parse(_decrypt(cipher, mac, encrypted))
    if not hmac.compare_digest(content.certificate.key.data, sender.data):
        raise InvalidMessage("The certificate belongs to another key than the sender's.")
    return content


def _keys(secret: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(secret, b"", 96, salt)
    return keys[:32], keys[32:64], keys[64:]


def _encrypt(cipher: bytes, mac: bytes, plaintext: bytes) -> bytes:
    encrypted = _counter_mode(cipher, plaintext)
    return encrypted + hmac.digest(mac, encrypted, "sha256")[:MAC_BYTES]


def _decrypt(cipher: bytes, mac: bytes, data: bytes) -> bytes:
    encrypted, tag = data[:-MAC_BYTES], data[-MAC_BYTES:]
    if not hmac.compare_digest(hmac.digest(mac, encrypted, "sha256")[:MAC_BYTES], tag):
        raise BadMac
    return _counter_mode(cipher, encrypted)


def _counter_mode(key: bytes, data: bytes) -> bytes:
    encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()
    return encryptor.update(data) + encryptor.finalize()
