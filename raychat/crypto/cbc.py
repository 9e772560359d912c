"""AES-256 in CBC mode with PKCS #7 padding (RFC 5652, section 6.3), as Signal's messages use it.

CBC says nothing about who wrote a ciphertext. Only open one whose MAC or signature has been
verified: otherwise the padding check, which takes no constant time, tells an attacker about the
plaintext. The cipher itself is OpenSSL's.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from raychat.errors import InvalidMessage

BLOCK_BYTES: Final = 16


def cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """Pad and encrypt. A key and IV serve one plaintext."""
    padding = BLOCK_BYTES - len(plaintext) % BLOCK_BYTES
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(plaintext + bytes((padding,)) * padding) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """Decrypt a verified ciphertext and take the padding off. Raises InvalidMessage."""
    if not ciphertext or len(ciphertext) % BLOCK_BYTES:
        raise InvalidMessage("The ciphertext is not a whole number of blocks.")
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    padding = padded[-1]
    if not 1 <= padding <= BLOCK_BYTES or padded[-padding:] != bytes((padding,)) * padding:
        raise InvalidMessage("The padding of the message is damaged.")
    return padded[:-padding]
