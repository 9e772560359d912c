"""PINs at rest: argon2id over what the pepper makes of them.

A PIN of a few digits is found in seconds by whoever may try all of them, so it takes two things
to try: the pepper, which is not in the database, and for each try the memory and time of argon2.
"""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from raychat import limits
from raychat.accounts.pepper import Pepper
from raychat.errors import StoreError
from raychat.ids import AccountId


class Pins:
    """Hashes PINs and compares them, in threads and a few at once."""

    def __init__(self, pepper: Pepper, hasher: PasswordHasher | None = None) -> None:
        """The default hasher has the parameters of RFC 9106 for little memory (64 MiB)."""
        self._pepper = pepper
        self._hasher = hasher or PasswordHasher()
        self._turn = asyncio.Semaphore(limits.PIN_HASHES)

    async def hash(self, account: AccountId, pin: str) -> str:
        """What is kept of an account's PIN, its salt and the parameters in it."""
        secret = self._pepper.pin(account, pin)
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, bytes(secret))

    async def matches(self, account: AccountId, hashed: str, pin: str) -> bool:
        """Whether it is the PIN that was hashed. Raises StoreError for what is no hash."""
        secret = self._pepper.pin(account, pin)
        async with self._turn:
            return await asyncio.to_thread(self._verify, hashed, bytes(secret))

    def _verify(self, hashed: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(hashed, secret)
        except VerifyMismatchError:
            return False
        except (InvalidHashError, VerificationError) as error:
            raise StoreError("The lock of an account cannot be read.") from error
