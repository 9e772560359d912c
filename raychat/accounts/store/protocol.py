"""What a store of accounts and registrations does."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from raychat.accounts.lock import Lock
from raychat.accounts.pepper import NumberHash, Pepper, PoolKey, RegistrationKey
from raychat.accounts.registration import Registration, Started
from raychat.accounts.sending import Known, Pool
from raychat.ids import AccountId


class Record(NamedTuple):
    """An account: its number, the last day it was seen (since 1970), its lock if it has one."""

    number: NumberHash
    seen: int
    lock: Lock | None


class Resting(NamedTuple):
    """A number that was given up by an account, and rests until a time (ms)."""

    account: AccountId
    until: int


class RegistrationStore(Protocol):
    """Each call is a durable transaction of its own. All may raise StoreError."""

    @property
    def pepper(self) -> Pepper:
        """What makes the hashes this store takes."""

    async def known(self, number: NumberHash, prefix: PoolKey) -> Known:
        """What is known of codes sent to a number, its prefix and all."""

    async def begin(self, started: Started, known: Known, now: int, most: int) -> bool:
        """Keep a new registration in place of the started ones of its number, and what is known
        from now on; sweep what has expired. False, and nothing kept, if `most` others are alive."""

    async def registration(self, key: RegistrationKey) -> Registration | None: ...

    async def save(self, registration: Registration) -> None:
        """Replace a registration's state, unless it was swept or replaced meanwhile."""

    async def save_verified(
        self, registration: Registration, prefix: PoolKey, pools: tuple[Pool, Pool]
    ) -> None:
        """The same, with what is known of its prefix and of all from now on."""


class AccountStore(RegistrationStore, Protocol):
    """Each call is a durable transaction of its own. All may raise StoreError."""

    async def claim(self, number: NumberHash, candidate: AccountId, day: int) -> AccountId:
        """The account of a number, seen on `day`; `candidate` becomes it if there is none yet."""

    async def account(self, number: NumberHash) -> AccountId | None: ...

    async def record(self, account: AccountId) -> Record | None: ...

    async def resting(self, number: NumberHash) -> Resting | None:
        """Who gave the number up last, as long as nobody has taken it since."""

    async def see(self, account: AccountId, day: int) -> None:
        """The account was seen on a day. Writes only if that is news."""

    async def put_lock(self, account: AccountId, lock: Lock | None) -> None: ...

    async def move(self, account: AccountId, number: NumberHash, until: int) -> AccountId | None:
        """Give an account another number; the old one rests until a time. Who had the new one is
        removed, as by `remove` with no rest, and returned. Registrations of both are gone."""

    async def remove(self, account: AccountId, until: int) -> None:
        """Take an account's row, lock and registrations away; its number rests until a time.
        It is `leaving` from now on, until it is `gone`."""

    async def leaving(self, most: int) -> list[AccountId]:
        """Accounts that were removed and whose hosts may not know it yet."""

    async def gone(self, account: AccountId) -> None: ...

    async def accounts(self, after: AccountId, most: int) -> list[AccountId]:
        """At most `most` accounts, with those that leave, whose id is greater, in order."""

    async def count(self) -> int:
        """How many accounts there are."""

    async def close(self) -> None: ...
