"""The key of a profile: what an account shows of itself, to those it gave the key to.

    field = nonce (12) | AES-256-GCM(HKDF(key, "raychat profile 1"), nonce, padded, name)

The server keeps the fields and cannot read them. A field is padded with zeros to one of a few
sizes, so that its length says little; its name (`"name"`, `"about"`) is authenticated, so that
fields cannot be passed off for each other. Whoever should no longer see a profile is shut out
by a new key and new fields. Nonces are random, which is safe for far more than the few
thousand times a profile is edited (2^32, NIST SP 800-38D, section 8.3).

The fields don't prove who wrote them, since all contacts know the key: they must come from the
account's own upload.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from raychat.crypto.kdf import hkdf
from raychat.errors import BadMac, InvalidKey, InvalidMessage, TooLarge

PROFILE_KEY_BYTES: Final = 32
FIELD_SIZES: Final = (64, 256, 1_024, 4_096)
"""What a field is padded to, its end mark included."""

_LABEL: Final = b"raychat profile 1"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_END: Final = b"\x01"


@dataclass(frozen=True, slots=True, repr=False)
class ProfileKey:
    """32 random bytes, known to the account and its contacts."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != PROFILE_KEY_BYTES:
            raise InvalidKey(f"A profile key is {PROFILE_KEY_BYTES} bytes.")

    @classmethod
    def generate(cls) -> Self:
        return cls(os.urandom(PROFILE_KEY_BYTES))

    def encrypt(self, name: str, value: bytes) -> bytes:
        """The field `name` as the server keeps it. Raises TooLarge."""
        size = next((size for size in FIELD_SIZES if size > len(value)), None)
        if size is None:
            raise TooLarge(f"A profile field has less than {FIELD_SIZES[-1]} bytes.")
        nonce = os.urandom(_NONCE_BYTES)
        padded = (value + _END).ljust(size, b"\x00")
        return nonce + self._aead().encrypt(nonce, padded, name.encode())

    def decrypt(self, name: str, data: bytes) -> bytes:
        """The value of the field `name`. Raises InvalidMessage, of which BadMac."""
        if len(data) - _NONCE_BYTES - _TAG_BYTES not in FIELD_SIZES:
            raise InvalidMessage("The profile field has none of the sizes of one.")
        try:
            padded = self._aead().decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], name.encode())
        except InvalidTag:
            raise BadMac from None
        value = padded.rstrip(b"\x00")
        if not value.endswith(_END):
            raise InvalidMessage("The padding of the profile field is damaged.")
        return value[: -len(_END)]

    def _aead(self) -> AESGCM:
        return AESGCM(hkdf(self.data, _LABEL, 32))

    def __repr__(self) -> str:
        return "ProfileKey(…)"
