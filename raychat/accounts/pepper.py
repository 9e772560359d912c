"""The pepper: the secret without which nothing in the accounts' store can be guessed.

There are few enough phone numbers and codes to try them all, so a plain hash hides neither.
HMAC-SHA256 under 32 random bytes does, as long as they are not in the database itself: they lie
in a file of their own beside it. Whoever loses that file loses which number has which account,
so it belongs in the backup, apart from the database.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Final, NewType, Self

from raychat.errors import StoreLocked
from raychat.ids import AccountId, PhoneNumber, Secret
from raychat.secretfile import write_secret

NumberHash = NewType("NumberHash", bytes)
"""32 bytes that stand for a phone number."""

RegistrationKey = NewType("RegistrationKey", bytes)
"""32 bytes that stand for a registration id, which is a secret of the device."""

Proof = NewType("Proof", bytes)
"""32 bytes that stand for a code of one registration: the same code elsewhere differs."""

PoolKey = NewType("PoolKey", bytes)
"""32 bytes that stand for the prefix of a number, or for all of them."""

PEPPER_BYTES: Final = 32


class Pepper:
    """Makes hashes of what must not be stored. Each kind of thing hashes differently."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != PEPPER_BYTES:
            raise StoreLocked(f"A pepper is {PEPPER_BYTES} bytes; restore its file.")
        self._secret = Secret(secret)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The pepper in a file, None if there is no such file. Raises StoreLocked."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            return None

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new pepper, durably in a file of mode 0600: wholly there or not at all."""
        secret = os.urandom(PEPPER_BYTES)
        write_secret(path, secret)
        return cls(secret)

    def number(self, number: PhoneNumber) -> NumberHash:
        return NumberHash(self._hash(b"number", number.encode()))

    def registration(self, registration: str) -> RegistrationKey:
        return RegistrationKey(self._hash(b"registration", _bytes(registration)))

    def code(self, key: RegistrationKey, code: str) -> Proof:
        return Proof(self._hash(b"code", key + _bytes(code)))

    def prefix(self, prefix: str) -> PoolKey:
        """The key of a prefix; of all numbers for the empty one."""
        return PoolKey(self._hash(b"prefix", prefix.encode()))

    def pin(self, account: AccountId, pin: str) -> Secret:
        """What is hashed slowly in place of a PIN, so that the database alone, from which all
        PINs of a few digits could be tried, gives none away."""
        return Secret(self._hash(b"pin", account + _bytes(pin)))

    def fingerprint(self) -> bytes:
        """32 bytes by which a database knows its pepper again."""
        return self._hash(b"fingerprint", b"")

    def _hash(self, kind: bytes, data: bytes) -> bytes:
        return hmac.digest(self._secret, b"raychat " + kind + b"\0" + data, "sha256")

    def __repr__(self) -> str:
        return "Pepper(…)"


def _bytes(text: str) -> bytes:
    # What a client sent may hold half a surrogate pair, which has no UTF-8.
    return text.encode("utf-8", "surrogatepass")
