"""The service of accounts with the real store, in virtual time, and a phone for every number."""

from __future__ import annotations

from pathlib import Path
from random import Random

from argon2 import PasswordHasher

from raychat.accounts.challenge import Challenge
from raychat.accounts.pins import Pins
from raychat.accounts.sender import CodeMessage
from raychat.accounts.service import Accounts
from raychat.accounts.store import SqliteAccountStore
from raychat.clock import ManualClock
from raychat.ids import AccountId

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Phones:
    """A provider that reaches every number."""

    def __init__(self) -> None:
        self.sent: list[CodeMessage] = []

    async def send(self, message: CodeMessage) -> None:
        self.sent.append(message)

    async def close(self) -> None:
        return None

    def to(self, prefix: str) -> int:
        """How many codes numbers with a prefix have got."""
        return sum(message.number.startswith(prefix) for message in self.sent)


class World:
    """A service that can be restarted on the same files."""

    def __init__(
        self, folder: Path, *, scale: float = 1, challenge: Challenge | None = None
    ) -> None:
        self.folder = folder
        self.scale = scale
        self.challenge = challenge
        self.phones = Phones()
        self.clock = ManualClock()
        self.random = Random(7)
        self.open()

    def open(self) -> None:
        self.store = SqliteAccountStore(self.folder / "accounts.db")
        self.accounts = Accounts(
            self.store,
            self.phones,
            self.clock,
            self.random.randbytes,
            challenge=self.challenge,
            scale=self.scale,
            pins=Pins(self.store.pepper, QUICK),
        )

    async def restart(self) -> None:
        await self.accounts.close()
        self.open()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1000))

    def wrong(self) -> str:
        """A code that was not the last one sent."""
        return f"{(int(self.phones.sent[-1].code) + 1) % 1_000_000:06}"

    async def verified(self, number: str) -> str:
        """A registration of a number that the code was given for."""
        begun = await self.accounts.start(number)
        await self.accounts.check(begun.registration, self.phones.sent[-1].code)
        return begun.registration

    async def person(self, number: str, pin: str | None = None) -> AccountId:
        """An account of a number, locked if there is a PIN."""
        account = await self.accounts.redeem(await self.verified(number))
        if pin is not None:
            await self.accounts.set_lock(account, pin)
        return account
