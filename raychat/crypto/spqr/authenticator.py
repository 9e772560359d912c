"""Binds every key exchanged in the Braid to the session it is exchanged in.

Specification: "The ML-KEM Braid Protocol", section 2 (authenticator). Headers and ciphertexts
travel in pieces inside messages that are authenticated one by one; the MACs here are made with
a key that also depends on every epoch secret before, so that whoever joins later, or knows a
single message key, cannot exchange the keys for his own.

    root' | mac = HKDF(root || secret, "…:Authenticator Update" || epoch, 64), no salt
    MAC of a header      HMAC(mac, "…:ekheader" || epoch || header)
    MAC of a ciphertext  HMAC(mac, "…:ciphertext" || epoch || both parts)
"""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple, Self

from raychat.crypto.kdf import hkdf
from raychat.errors import BadMac

KEY_BYTES: Final = 32
MAC_BYTES: Final = 32
LABEL: Final = b"Signal_PQCKA_V1_MLKEM768"


class Authenticator(NamedTuple):
    """`root` takes up the epoch secrets, `mac` makes the MACs of the present epoch."""

    root: bytes
    mac: bytes

    @classmethod
    def begun(cls, secret: bytes) -> Self:
        """For a new session; `secret` comes from the handshake."""
        return cls(bytes(KEY_BYTES), b"").updated(1, secret)

    def updated(self, epoch: int, secret: bytes) -> Self:
        info = LABEL + b":Authenticator Update" + epoch.to_bytes(8, "big")
        keys = hkdf(self.root + secret, info, 2 * KEY_BYTES)
        return type(self)(keys[:KEY_BYTES], keys[KEY_BYTES:])

    def header_mac(self, epoch: int, header: bytes) -> bytes:
        return self._mac(b":ekheader", epoch, header)

    def ciphertext_mac(self, epoch: int, ciphertext: bytes) -> bytes:
        return self._mac(b":ciphertext", epoch, ciphertext)

    def _mac(self, label: bytes, epoch: int, data: bytes) -> bytes:
        return hmac.digest(self.mac, LABEL + label + epoch.to_bytes(8, "big") + data, "sha256")

    def __repr__(self) -> str:
        return "Authenticator(…)"


def check_mac(expected: bytes, given: bytes) -> None:
    """Raises BadMac. Takes the same time wherever the two differ."""
    if not hmac.compare_digest(expected, given):
        raise BadMac("A key exchanged inside the session fails its authentication code.")
