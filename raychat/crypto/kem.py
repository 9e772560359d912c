"""Kyber1024 of the third round, the key encapsulation of PQXDH (type byte 0x08).

Specification: "The PQXDH Key Agreement Protocol", revision 3, section 2.2, and the Kyber
submission of round 3. It is computed by the library's ML-KEM-1024 (FIPS 203): both share keys,
ciphertexts and their encodings, and differ in how the secret is finished. Round 3 hashes once
more, SHAKE256(K || SHA3-256(ciphertext)). It also hashes the random input of encapsulation
first, which nobody can see from outside.

A private key is stored as its 64-byte seed (d || z). For a damaged ciphertext decapsulation
gives a secret that is useless and looks like any other; the message's MAC then fails. The
library works in constant time; Python cannot wipe a key from memory.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from raychat.errors import InvalidKey, InvalidMessage

TYPE: Final = 8
PUBLIC_BYTES: Final = 1 + 1568
CIPHERTEXT_BYTES: Final = 1 + 1568
SEED_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class KemPublicKey:
    """A Kyber1024 public key in its written form: 0x08 and 1568 bytes."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != PUBLIC_BYTES or self.data[0] != TYPE:
            raise InvalidKey("A Kyber key is 0x08 and 1568 bytes.")

    def encapsulate(self) -> tuple[bytes, bytes]:
        """(ciphertext in its written form, 32-byte secret). Raises InvalidKey."""
        try:
            key = MLKEM1024PublicKey.from_public_bytes(self.data[1:])
        except ValueError:
            raise InvalidKey("The Kyber key is not a valid encoding.") from None
        secret, ciphertext = key.encapsulate()
        return bytes((TYPE,)) + ciphertext, _finish(secret, ciphertext)

    def __repr__(self) -> str:
        return f"KemPublicKey({self.data[1:5].hex()}…)"


@dataclass(frozen=True, slots=True, repr=False)
class KemPrivateKey:
    """A Kyber1024 private key as the 64-byte seed it is expanded from."""

    seed: bytes

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise InvalidKey("A Kyber seed is 64 bytes.")

    @classmethod
    def generate(cls) -> Self:
        return cls(os.urandom(SEED_BYTES))

    def public_key(self) -> KemPublicKey:
        key = MLKEM1024PrivateKey.from_seed_bytes(self.seed).public_key()
        return KemPublicKey(bytes((TYPE,)) + key.public_bytes_raw())

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The 32-byte secret of a ciphertext in its written form. Raises InvalidMessage."""
        if len(ciphertext) != CIPHERTEXT_BYTES or ciphertext[0] != TYPE:
            raise InvalidMessage("A Kyber ciphertext is 0x08 and 1568 bytes.")
        plain = ciphertext[1:]
        return _finish(MLKEM1024PrivateKey.from_seed_bytes(self.seed).decapsulate(plain), plain)

    def __repr__(self) -> str:
        return "KemPrivateKey(…)"


def _finish(secret: bytes, ciphertext: bytes) -> bytes:
    return hashlib.shake_256(secret + hashlib.sha3_256(ciphertext).digest()).digest(32)
