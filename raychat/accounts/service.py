"""From a phone number to an account: the registration, with its store and text messages.

One process runs one `Accounts`, which owns the store. A registration id is a secret of the
device that started it; who has it and the code has the number's account.
"""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from collections.abc import Callable
from typing import Final

from raychat import limits
from raychat.accounts import registration as rules
from raychat.accounts.numbers import parse_number
from raychat.accounts.registration import Redeemed, Registration, Started
from raychat.accounts.sms import Sms
from raychat.accounts.store import AccountStore
from raychat.clock import Clock, wall_ms
from raychat.errors import BadCode, CodeExpired, NotFound, Overloaded
from raychat.ids import AccountId

REGISTRATION_BYTES: Final = 24
CODE_BYTES: Final = 8
PAGE: Final = 1_000

RandomBytes = Callable[[int], bytes]
"""So many random bytes, fit for secrets."""


class Accounts:
    """Numbers, registrations and accounts. All calls may raise StoreError."""

    def __init__(
        self,
        store: AccountStore,
        sms: Sms,
        clock: Clock = wall_ms,
        random: RandomBytes = os.urandom,
    ) -> None:
        self._store = store
        self._pepper = store.pepper
        self._sms = sms
        self._clock = clock
        self._random = random
        # A registration is read, judged and written back; two calls at once would both spend
        # the same try. Text messages are sent outside of it.
        self._lock = asyncio.Lock()

    async def start(self, number_text: str) -> tuple[str, int, int]:
        """Send a code to a number: (registration id, digits of the code, seconds it is good).

        An older code of the number stops working. Raises BadNumber, Overloaded, Unavailable.
        """
        number = parse_number(number_text)
        registration = base64.urlsafe_b64encode(self._random(REGISTRATION_BYTES)).decode()
        code = self._new_code()
        key = self._pepper.registration(registration)
        now = self._clock()
        started = rules.start(key, self._pepper.number(number), self._pepper.code(key, code), now)
        async with self._lock:
            kept = await self._store.begin(started, now, limits.REGISTRATION_SESSIONS)
        if not kept:
            raise Overloaded("Too many registrations are under way; try again in some minutes.")
        await self._sms.send(number, f"your raychat code is {code}")
        return registration, limits.CODE_DIGITS, limits.CODE_SECONDS

    async def check(self, registration: str, code: str) -> None:
        """Verify the number with the code that was sent to it; may be repeated.

        Spaces and hyphens in the code do not count. Raises BadCode (and one try is spent),
        CodeExpired also for a registration that does not exist (any more).
        """
        digits = "".join(code.split()).replace("-", "")
        async with self._lock:
            before = await self._find(registration)
            proof = self._pepper.code(before.key, digits)
            after = rules.check(before, proof, self._clock())
            if after != before:
                await self._store.save(after)
        if isinstance(after, Started):
            raise BadCode(_wrong(after.tries))

    async def redeem(self, registration: str) -> AccountId:
        """The account of a verified registration's number, made if it is the first time.

        May be repeated until the registration expires, with the same result. Raises
        CodeExpired, and Denied before the code was given.
        """
        async with self._lock:
            proven = rules.proven(await self._find(registration), self._clock())
            if isinstance(proven, Redeemed):
                return proven.account
            # A crash between the two leaves the account and a verified registration, which
            # finds that account when it is redeemed again.
            account = await self._store.claim(proven.number, self._new_account())
            await self._store.save(rules.redeem(proven, account))
            return account

    async def lookup(self, number_text: str) -> AccountId:
        """The account of a number. Raises BadNumber, NotFound."""
        account = await self._store.account(self._pepper.number(parse_number(number_text)))
        if account is None:
            raise NotFound("That number has no account.")
        return account

    async def all_accounts(self) -> list[AccountId]:
        """Every account, in the order of their ids."""
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
        await self._store.close()

    async def _find(self, registration: str) -> Registration:
        found = await self._store.registration(self._pepper.registration(registration))
        if found is None:
            # Swept, replaced, or never there: not told apart, so that ids cannot be probed.
            raise CodeExpired
        return found

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
