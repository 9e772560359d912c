"""HKDF with SHA-256 (RFC 5869), the one key derivation of the protocol."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SHA256: Final = SHA256()


def hkdf(secret: bytes, info: bytes, length: int, salt: bytes | None = None) -> bytes:
    """`length` bytes derived from `secret` for the purpose `info`. No salt is 32 zero bytes."""
    return HKDF(_SHA256, length, salt, info).derive(secret)
