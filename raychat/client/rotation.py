"""Keeping a device's published keys fresh: refilling one-time keys, renewing the lasting ones.

When it is done next is drawn at random and kept in the device's file, ahead of time. So what the
server (and whoever fetches keys there) sees of it does not tell when the device came online, nor
when a session was started. The lasting keys are renewed every limits.KEY_ROTATION_DAYS; those
before are kept for limits.KEY_KEPT_DAYS after the server has the new ones, and then wiped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from raychat import limits
from raychat.client.http import Caller, KeyCounts, publication
from raychat.client.keys import LongKeys
from raychat.client.registration import fill
from raychat.client.store import DeviceStore
from raychat.clock import Clock
from raychat.errors import RaychatError

log = logging.getLogger("raychat.client")

DAY_MS: Final = 86_400_000
PAUSE_MS: Final = (2 * 3_600_000, 10 * 3_600_000)
"""From one check to the next."""

SOON_MS: Final = (60_000, 1_800_000)
"""The same, when many one-time keys were used or a call has failed."""

MANY_USES: Final = 20
LOOK_SECONDS: Final = (2.0, 30.0)
"""How often it is looked whether something is due."""

UPKEEP: Final = "keys"


class KeyApi(Protocol):
    """The calls of `HttpApi` that are made here."""

    async def key_counts(self, caller: Caller) -> KeyCounts: ...

    async def put_keys(self, caller: Caller, keys: dict[str, Any]) -> None: ...


def is_old(created: int, now: int) -> bool:
    """Whether lasting keys made at `created` (ms) have served their time. Those of a time that
    has not come yet, made while the clock was wrong, have too."""
    return not 0 <= now - created < limits.KEY_ROTATION_DAYS * DAY_MS


class KeyKeeper:
    """Keeps the keys of one device. What the calls raise passes through `keep`."""

    def __init__(
        self,
        store: DeviceStore,
        api: KeyApi,
        caller: Callable[[], Caller],
        clock: Clock,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._api = api
        self._caller = caller
        self._clock = clock
        self._chance = chance or random.SystemRandom()
        self._uses = 0

    async def run(self, online: asyncio.Event, uses: Callable[[], int]) -> None:
        """Keep them for ever, while `online` is set. `uses` counts the sessions that others have
        started with this device."""
        while True:
            await online.wait()
            await asyncio.sleep(self._chance.uniform(*LOOK_SECONDS))
            try:
                await self.look(uses())
            except RaychatError as error:
                log.info("keys were not kept up: %s", error.code)

    async def look(self, uses: int = 0) -> bool:
        """Do what is due, if anything is, and draw when it is due next."""
        now = self._clock()
        due = self._store.upkeep(UPKEEP)
        if uses - self._uses >= MANY_USES:
            self._uses = uses
            due = min(due, self._draw(now, SOON_MS))
            self._set(due)
        if now < due <= now + PAUSE_MS[1]:
            return False
        self._set(self._draw(now, SOON_MS))  # what holds if a call below fails
        await self.keep()
        self._uses = uses
        self._set(self._draw(now, PAUSE_MS))
        return True

    async def keep(self) -> None:
        """Renew, wipe and refill, as far as each is needed now."""
        await self.renew()
        with self._store.transaction():
            self._store.keys.wipe_long_keys(self._clock())
        await self.refill()

    async def renew(self) -> None:
        """Publish new lasting keys if the old ones have served their time, or if the server is
        not known to have the latest."""
        keys, now = self._store.keys, self._clock()
        newest = keys.newest_long_keys()
        if newest is not None and newest[1] and not is_old(newest[0].created, now):
            return
        made: LongKeys
        if newest is None or newest[1]:
            with self._store.transaction():
                made = keys.make_long_keys(now)
        else:
            made = newest[0]
        await self._api.put_keys(self._caller(), publication(None, None, made, (), ()))
        with self._store.transaction():
            keys.long_keys_published(made, now)

    async def refill(self) -> None:
        """Publish new one-time keys of each kind of which too few are left."""
        counts = await self._api.key_counts(self._caller())
        wanted = [limits.PRE_KEY_UPLOAD if left < limits.PRE_KEY_REFILL else 0 for left in counts]
        if not any(wanted):
            return
        keys = self._store.keys
        with self._store.transaction():
            fill(keys, self._clock(), *wanted)
            pre_keys, kyber = keys.unpublished(limits.PRE_KEY_UPLOAD)
        pre_keys, kyber = pre_keys[: wanted[0]], kyber[: wanted[1]]
        await self._api.put_keys(self._caller(), publication(None, None, None, pre_keys, kyber))
        with self._store.transaction():
            keys.published(pre_keys, kyber)

    def _draw(self, now: int, pause: tuple[int, int]) -> int:
        return now + self._chance.randint(*pause)

    def _set(self, due: int) -> None:
        with self._store.transaction():
            self._store.set_upkeep(UPKEEP, due)
