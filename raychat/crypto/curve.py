"""X25519 keys and XEdDSA signatures: one key pair both agrees and signs.

Specifications: RFC 7748 (X25519) and "The XEdDSA and VXEdDSA Signature Schemes", revision 1:
section 2.3 (conversions), 2.5 (hashes) and 3 (XEdDSA). Two of Signal's choices lie outside the
text: a public key is written as 0x05 and the 32 bytes of u, and the sign of the Edwards point
travels in the top bit of the signature instead of being forced to 0.

All arithmetic on secrets is libsodium's, which runs in constant time. The conversion of u to
an Edwards y is done in Python integers and is not, but its input is public. Python can
neither wipe a key from memory nor keep it out of copies: a key lives until its object does.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_sign_open,
)
from nacl.exceptions import CryptoError as SodiumError

from raychat.errors import BadSignature, InvalidKey

PREFIX: Final = 5
PUBLIC_BYTES: Final = 33
PRIVATE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KNOWN_KEYS: Final = 1_024
"""Public keys whose Edwards form is kept."""

_P: Final = 2**255 - 19
# 2^256 - 2: keeps the nonce hash apart from every other hash of the scheme (XEdDSA, 2.5).
_NONCE_PREFIX: Final = b"\xfe" + b"\xff" * 31


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An X25519 public key in its 33-byte written form."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != PUBLIC_BYTES or self.data[0] != PREFIX:
            raise InvalidKey("A public key is 0x05 and 32 bytes.")

    def verify(self, message: bytes, signature: bytes) -> None:
        """Check an XEdDSA signature over `message`. Raises BadSignature.

        Stricter than RFC 8032: keys and nonces of small order are refused, since with them
        one signature fits many messages.
        """
        y = _edwards_y(self.data)
        if y is None or len(signature) != SIGNATURE_BYTES:
            raise BadSignature
        top = signature[63]
        point = (y | (top & 0x80) << 248).to_bytes(32, "little")
        plain = signature[:63] + bytes((top & 0x7F,))
        try:
            crypto_sign_open(plain + message, point)
        except SodiumError:
            raise BadSignature from None

    def is_canonical(self) -> bool:
        """Whether u is written in its only proper way and its point has the prime order.

        Every honestly made key passes. One that does not could be replaced by another with
        the same DH results, so it must not serve as the name of a session.
        """
        u = int.from_bytes(self.data[1:], "little")
        y = _edwards_y(self.data)
        if u >= _P or y is None:
            return False
        return crypto_core_ed25519_is_valid_point(y.to_bytes(32, "little"))

    def __repr__(self) -> str:
        return f"PublicKey({self.data[1:5].hex()}…)"


@lru_cache(KNOWN_KEYS)
def _edwards_y(data: bytes) -> int | None:
    """y = (u - 1) / (u + 1) mod p of a public key; None for u = -1, which has no y.

    The inversion takes longer than the rest of a verification's Python, and a peer's key
    verifies many messages. What is kept is public.
    """
    u = int.from_bytes(data[1:], "little") & (2**255 - 1)
    if (u + 1) % _P == 0:
        return None
    return (u - 1) * pow(u + 1, -1, _P) % _P


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """An X25519 private key: 32 clamped bytes."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != PRIVATE_BYTES:
            raise InvalidKey("A private key is 32 bytes.")
        first, last = self.data[0], self.data[31]
        if first & 7 or last >> 6 != 1:
            clamped = bytes((first & 0xF8,)) + self.data[1:31] + bytes((last & 0x3F | 0x40,))
            object.__setattr__(self, "data", clamped)

    @classmethod
    def generate(cls) -> Self:
        return cls(os.urandom(PRIVATE_BYTES))

    def public_key(self) -> PublicKey:
        return PublicKey(b"\x05" + crypto_scalarmult_base(self.data))

    def agree(self, theirs: PublicKey) -> bytes:
        """The 32-byte shared secret. Raises InvalidKey for a key that contributes nothing."""
        try:
            return crypto_scalarmult(self.data, theirs.data[1:])
        except SodiumError:
            raise InvalidKey("The public key contributes nothing to the secret.") from None

    def sign(self, message: bytes, nonce: bytes | None = None) -> bytes:
        """A 64-byte XEdDSA signature. `nonce` is 64 random bytes; only tests pass it."""
        scalar = crypto_core_ed25519_scalar_reduce(self.data + bytes(32))
        public = crypto_scalarmult_ed25519_base_noclamp(scalar)
        r = _hash_to_scalar(_NONCE_PREFIX, self.data, message, nonce or os.urandom(64))
        commitment = crypto_scalarmult_ed25519_base_noclamp(r)
        h = _hash_to_scalar(commitment, public, message)
        s = crypto_core_ed25519_scalar_add(crypto_core_ed25519_scalar_mul(h, scalar), r)
        return commitment + s[:31] + bytes((s[31] | public[31] & 0x80,))

    def __repr__(self) -> str:
        return "PrivateKey(…)"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its public key, which is not computed anew each time."""

    private: PrivateKey
    public: PublicKey

    @classmethod
    def generate(cls) -> Self:
        return cls.of(PrivateKey.generate())

    @classmethod
    def of(cls, private: PrivateKey) -> Self:
        return cls(private, private.public_key())


def _hash_to_scalar(*parts: bytes) -> bytes:
    return crypto_core_ed25519_scalar_reduce(hashlib.sha512(b"".join(parts)).digest())
