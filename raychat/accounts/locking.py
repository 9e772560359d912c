"""The registration locks of accounts: set by their owners, opened by who has the PIN."""

from __future__ import annotations

import asyncio

from raychat.accounts import lock as rules
from raychat.accounts.pins import Pins
from raychat.accounts.store import AccountStore, Record
from raychat.clock import Clock
from raychat.errors import NotFound
from raychat.ids import AccountId


class Locks:
    """Locks in the store. `turn` is held while a record is read, judged and written back; two
    calls at once would both spend the same try."""

    def __init__(self, store: AccountStore, pins: Pins, clock: Clock, turn: asyncio.Lock) -> None:
        self._store = store
        self._pins = pins
        self._clock = clock
        self._turn = turn

    async def has(self, account: AccountId) -> bool:
        """Whether an account that is in use is locked. Raises NotFound."""
        return (await self._record(account)).lock is not None

    async def set(self, account: AccountId, pin: str) -> None:
        """Lock the account with a PIN, in place of another. Raises Malformed, NotFound."""
        pin = rules.check_pin(pin)
        await self._record(account)
        hashed = await self._pins.hash(account, pin)
        async with self._turn:
            await self._store.put_lock(account, rules.new(hashed, self._clock()))
            await self._store.see(account, rules.day(self._clock()))

    async def remove(self, account: AccountId) -> None:
        """Raises NotFound for an account that has been deleted."""
        async with self._turn:
            await self._record(account)
            await self._store.put_lock(account, None)

    async def open(self, account: AccountId, pin: str | None) -> None:
        """Return if the account has no lock that holds, or it is its PIN. Raises Locked for no
        PIN or no try, BadPin and a try is spent."""
        async with self._turn:
            record = await self._store.record(account)
            now = self._clock()
            if record is None or record.lock is None:
                return
            if not rules.holds(record.lock, record.seen, now):
                return
            if pin is None:
                raise rules.pin_wanted(record.lock, record.seen, now)
            spent = rules.spend_try(record.lock, record.seen, now)
            await self._store.put_lock(account, spent)
        if not await self._pins.matches(account, spent.hash, pin.strip()):
            raise rules.wrong(spent, now)
        async with self._turn:
            record = await self._store.record(account)
            # Its owner may have set another one meanwhile, whose tries are not ours to give back.
            if record is not None and record.lock is not None and record.lock.hash == spent.hash:
                await self._store.put_lock(account, rules.opened(record.lock, self._clock()))

    async def drop_expired(self, account: AccountId) -> None:
        """Take away a lock that holds no more: who has the number now does not know its PIN. To
        be called in turn."""
        record = await self._store.record(account)
        if record is None or record.lock is None:
            return
        if not rules.holds(record.lock, record.seen, self._clock()):
            await self._store.put_lock(account, None)

    async def _record(self, account: AccountId) -> Record:
        record = await self._store.record(account)
        if record is None:
            raise NotFound("That account has been deleted.")
        return record
