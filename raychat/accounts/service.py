"""From a phone number to an account: registrations, lookups, and what becomes of an account.

One process runs one `Accounts`, which owns the store. A registration id is a secret of the
device that started it; who has it and the code (and the PIN, if the account is locked) has the
number's account.

Nothing on the way to the code says whether a number has an account: it is looked up only when
the code has proven that the asker has the number.
"""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from collections.abc import Callable
from math import ceil
from typing import Final, NamedTuple

import structlog

from raychat import limits
from raychat.accounts import lock as lock_rules
from raychat.accounts import registration as rules
from raychat.accounts import sending
from raychat.accounts.challenge import Asking, Challenge, NoChallenge
from raychat.accounts.gate import Gate
from raychat.accounts.locking import Locks
from raychat.accounts.numbers import country, parse_number, prefix
from raychat.accounts.pepper import NumberHash
from raychat.accounts.pins import Pins
from raychat.accounts.registration import Redeemed, Registration, Started
from raychat.accounts.sender import Channel, CodeMessage, Sender
from raychat.accounts.sending import Pool, Watched
from raychat.accounts.store import AccountStore
from raychat.clock import Clock, wall_ms
from raychat.errors import (
    BadCode,
    ChallengeRequired,
    CodeExpired,
    Denied,
    Locked,
    NotFound,
    Overloaded,
    Unavailable,
)
from raychat.ids import AccountId, PhoneNumber

log = structlog.get_logger("raychat.accounts")

REGISTRATION_BYTES: Final = 24
CODE_BYTES: Final = 8
PAGE: Final = 1_000
HOUR: Final = 3_600_000
REDEEM_ROUNDS: Final = 3
CHANGED_HANDS: Final = "The number has just changed hands; try again."

RandomBytes = Callable[[int], bytes]
"""So many random bytes, fit for secrets."""


class Begun(NamedTuple):
    """A registration has begun: its id (a secret), the digits of its code, seconds that is good
    for, seconds after which another code may be asked for."""

    registration: str
    digits: int
    seconds: int
    wait: int

    def __repr__(self) -> str:
        return f"Begun(…, digits={self.digits}, seconds={self.seconds}, wait={self.wait})"


class Accounts:
    """Numbers, registrations and accounts. All calls may raise StoreError."""

    def __init__(
        self,
        store: AccountStore,
        sender: Sender,
        clock: Clock = wall_ms,
        random: RandomBytes = os.urandom,
        *,
        challenge: Challenge | None = None,
        scale: float = 1,
        pins: Pins | None = None,
    ) -> None:
        """`scale` multiplies the budgets of `limits`."""
        self._store = store
        self._pepper = store.pepper
        self._sender = sender
        self._clock = clock
        self._random = random
        self._challenge = challenge or NoChallenge()
        self._sending = sending.Sending.of_limits(scale)
        self._gate = Gate(clock, scale)
        # A registration is read, judged and written back; two calls at once would both spend
        # the same try. Codes are sent, challenges checked and PINs hashed outside of it.
        self._lock = asyncio.Lock()
        self._locks = Locks(store, pins or Pins(store.pepper), clock, self._lock)

    # -- registration ----------------------------------------------------------------------

    async def start(
        self,
        number_text: str,
        channel_name: str = Channel.SMS,
        address: str = "",
        answer: str | None = None,
    ) -> Begun:
        """Send a code to a number, by text or call. An older code of it stops working.

        `address` is the client's, `answer` to the challenge if there was one. Raises BadNumber,
        Malformed, ChallengeRequired, RateLimited, Overloaded, Unavailable.
        """
        number = parse_number(number_text)
        channel = Channel.named(channel_name)
        hashed, pool = self._pepper.number(number), self._pepper.prefix(prefix(number))
        self._gate.code(address)
        # Asked before the challenge as well: nobody shall solve one only to be told to wait.
        known = await self._store.known(hashed, pool)
        sending.check_pace(self._sending, known.pace, self._clock())
        try:
            await self._challenge.check(Asking(number, address, answer))
        except ChallengeRequired:
            if answer is None:
                self._gate.no_code(address)
            raise
        registration = base64.urlsafe_b64encode(self._random(REGISTRATION_BYTES)).decode()
        code = self._new_code()
        key = self._pepper.registration(registration)
        async with self._lock:
            now = self._clock()
            known = await self._store.known(hashed, pool)
            after = sending.send(self._sending, known, now)
            started = rules.start(key, hashed, pool, self._pepper.code(key, code), now)
            kept = await self._store.begin(started, after, now, limits.REGISTRATION_SESSIONS)
        if not kept:
            raise Overloaded("Too many registrations are under way; try again in some minutes.")
        self._watch(number, known, after, now)
        await self._sender.send(CodeMessage(number, channel, code, limits.CODE_SECONDS))
        wait = ceil(self._sending.wait(after.pace) / sending.SECOND)
        return Begun(registration, limits.CODE_DIGITS, limits.CODE_SECONDS, wait)

    async def check(self, registration: str, code: str, address: str = "") -> None:
        """Verify the number with the code that was sent to it; may be repeated.

        Spaces and hyphens in the code do not count. Raises BadCode (and one try is spent),
        RateLimited, CodeExpired also for a registration that does not exist (any more).
        """
        self._gate.guess(address)
        digits = "".join(code.split()).replace("-", "")
        async with self._lock:
            before = await self._find(registration)
            proof = self._pepper.code(before.key, digits)
            now = self._clock()
            after = rules.check(before, proof, now)
            if isinstance(before, Started) and not isinstance(after, Started):
                known = await self._store.known(before.number, before.prefix)
                pools = sending.verified(known.prefix, now), sending.verified(known.all, now)
                await self._store.save_verified(after, before.prefix, pools)
            elif after != before:
                await self._store.save(after)
        if isinstance(after, Started):
            raise BadCode(_wrong(after.tries), {"tries": after.tries})

    async def locked_holder(self, registration: str) -> AccountId | None:
        """Who has the number of a verified registration, if that account has a lock. Before it is
        judged, `see` shall be told when the account was last in use. Raises CodeExpired, Denied.
        """
        proven = rules.proven(await self._find(registration), self._clock())
        if isinstance(proven, Redeemed):
            return None
        holder = await self._store.account(proven.number)
        record = None if holder is None else await self._store.record(holder)
        return holder if record is not None and record.lock is not None else None

    async def redeem(self, registration: str, pin: str | None = None) -> AccountId:
        """The account of a verified registration's number, made if it is the first time.

        May be repeated until the registration expires, with the same result. Raises CodeExpired,
        Denied before the code was given, Locked and BadPin if the account has a PIN, Locked while
        the number rests.
        """
        for _ in range(REDEEM_ROUNDS):
            proven = rules.proven(await self._find(registration), self._clock())
            if isinstance(proven, Redeemed):
                return proven.account
            holder = await self._store.account(proven.number)
            if holder is not None:
                await self._locks.open(holder, pin)
            account = await self._claim(registration, holder)
            if account is not None:
                return account
        raise Unavailable(CHANGED_HANDS)

    async def _claim(self, registration: str, holder: AccountId | None) -> AccountId | None:
        """The rest of `redeem`; None if the number no longer has the account that was judged."""
        async with self._lock:
            now = self._clock()
            proven = rules.proven(await self._find(registration), now)
            if isinstance(proven, Redeemed):
                return proven.account
            if await self._store.account(proven.number) != holder:
                return None
            if holder is None:
                await self._check_rest(proven.number, None, now)
            else:
                await self._locks.drop_expired(holder)
            # A crash between the two leaves the account and a verified registration, which
            # finds that account when it is redeemed again.
            day = lock_rules.day(now)
            account = await self._store.claim(proven.number, self._new_account(), day)
            await self._store.save(rules.redeem(proven, account))
            return account

    # -- the life of an account ------------------------------------------------------------

    async def lookup(self, number_text: str, asker: AccountId, address: str = "") -> AccountId:
        """The account of a number, for another account. Raises BadNumber, RateLimited, NotFound."""
        number = parse_number(number_text)
        self._gate.lookup(asker, address)
        account = await self._store.account(self._pepper.number(number))
        if account is None:
            raise NotFound("That number has no account.")
        return account

    async def see(self, account: AccountId, day: int) -> None:
        """A device of the account was in use on a day (since 1970), so its lock goes on holding."""
        await self._store.see(account, min(day, lock_rules.day(self._clock())))

    async def has_lock(self, account: AccountId) -> bool:
        """Whether registering the account anew takes a PIN. Raises NotFound."""
        return await self._locks.has(account)

    async def set_lock(self, account: AccountId, pin: str) -> None:
        """Lock an account with a PIN, in place of another. Raises Malformed, NotFound."""
        await self._locks.set(account, pin)

    async def remove_lock(self, account: AccountId) -> None:
        """Raises NotFound."""
        await self._locks.remove(account)

    async def change_number(
        self, account: AccountId, registration: str, pin: str | None = None
    ) -> AccountId | None:
        """Give an account the number of a verified registration. Its old number rests a while.

        Whoever has the code of a number could register it, so an account that has it is removed,
        with `pin` if it is locked; it is returned so that its host is told. May be repeated.
        Raises CodeExpired, Denied, Locked, BadPin, NotFound.
        """
        proven = rules.proven(await self._find(registration), self._clock())
        holder = await self._store.account(proven.number)
        if isinstance(proven, Redeemed):
            if proven.account == account == holder:
                return None
            raise Denied("That registration has been used already; start another one.")
        if holder is not None and holder != account:
            await self._locks.open(holder, pin)
        async with self._lock:
            now = self._clock()
            proven = rules.proven(await self._find(registration), now)
            if isinstance(proven, Redeemed) or holder != await self._store.account(proven.number):
                raise Unavailable(CHANGED_HANDS)
            await self._check_rest(proven.number, account, now)
            until = now + limits.RECYCLED_NUMBER_DAYS * lock_rules.DAY
            removed = await self._store.move(account, proven.number, until)
            await self._store.see(account, lock_rules.day(now))
            await self._store.save(rules.redeem(proven, account))
            return removed

    async def remove(self, account: AccountId, pin: str | None = None) -> None:
        """Delete an account here, with its PIN if it is locked. Its host must be told, and then
        `gone` be called; until then it is among `leaving`. May be repeated. Raises Locked, BadPin.
        """
        await self._store.see(account, lock_rules.day(self._clock()))
        await self._locks.open(account, pin)
        async with self._lock:
            until = self._clock() + limits.DELETED_NUMBER_HOURS * HOUR
            await self._store.remove(account, until)

    async def leaving(self) -> list[AccountId]:
        """Accounts that were removed and whose hosts may not know it yet."""
        return await self._store.leaving(PAGE)

    async def gone(self, account: AccountId) -> None:
        """The host of a removed account knows it."""
        await self._store.gone(account)

    async def all_accounts(self) -> list[AccountId]:
        """Every account, with those that leave, in the order of their ids."""
        found: list[AccountId] = []
        page = await self._store.accounts(AccountId(b""), PAGE)
        while page:
            found += page
            page = await self._store.accounts(page[-1], PAGE)
        return found

    async def count(self) -> int:
        """How many accounts there are."""
        return await self._store.count()

    async def close(self) -> None:
        await self._sender.close()
        await self._challenge.close()
        await self._store.close()

    # -- within ----------------------------------------------------------------------------

    async def _find(self, registration: str) -> Registration:
        found = await self._store.registration(self._pepper.registration(registration))
        if found is None:
            # Swept, replaced, or never there: not told apart, so that ids cannot be probed.
            raise CodeExpired
        return found

    async def _check_rest(self, number: NumberHash, account: AccountId | None, now: int) -> None:
        """Raises Locked while a number rests, except for the account that gave it up."""
        resting = await self._store.resting(number)
        if resting is not None and resting.account != account and now < resting.until:
            seconds = ceil((resting.until - now) / sending.SECOND)
            hours = ceil(seconds / 3600)
            raise Locked(
                "This number was given up a short while ago; it can be registered again in"
                f" {hours} hours.",
                {"seconds": seconds},
            )

    def _watch(
        self, number: PhoneNumber, before: sending.Known, after: sending.Known, now: int
    ) -> None:
        """Tell the operator when few codes come back. No more of a number than its country."""

        def became_poor(watched: Watched, before: Pool | None, after: Pool | None) -> bool:
            poor = sending.is_poor(watched, after, now)
            return poor and not sending.is_poor(watched, before, now)

        if became_poor(self._sending.prefix, before.prefix, after.prefix):
            log.warning("few codes to a prefix are typed in", country=country(number))
        if became_poor(self._sending.all, before.all, after.all):
            log.warning("few codes are typed in")

    def _new_code(self) -> str:
        # 64 bits make the bias towards low codes immeasurable.
        number = int.from_bytes(self._random(CODE_BYTES), "big") % 10**limits.CODE_DIGITS
        return f"{number:0{limits.CODE_DIGITS}}"

    def _new_account(self) -> AccountId:
        return AccountId(uuid.UUID(bytes=self._random(16), version=4).bytes)


def _wrong(tries: int) -> str:
    match tries:
        case 0:
            return "The code is wrong, and that was the last try; ask for a new one."
        case 1:
            return "The code is wrong; one try is left."
        case _:
            return f"The code is wrong; {tries} tries are left."
