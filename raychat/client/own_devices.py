"""The devices of one's own account, as a person manages them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from raychat import limits
from raychat.client.http import Caller, HttpApi
from raychat.client.store import DeviceStore
from raychat.clock import Clock
from raychat.crypto.device_list import DeviceList
from raychat.errors import Denied, ListStale, NotFound, NotRegistered, RaychatError
from raychat.ids import PRIMARY, DeviceId, Secret

log = logging.getLogger("raychat.client")

EMPTY: Final[Mapping[DeviceId, int]] = MappingProxyType({})
_DAY_MS: Final = 86_400_000
_LOOK_SECONDS: Final = (600.0, 3_600.0)
"""How often it is looked whether the token is old."""


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """One device of the account. `name` is known to the primary only, which has linked it.

    `linked` is when (ms), `seen` the last day (since 1970) it was there, None if the server does
    not have it any more.
    """

    device: DeviceId
    name: str | None
    linked: int
    seen: int | None
    is_this: bool
    is_primary: bool

    @classmethod
    def known(cls, store: DeviceStore, seen: Mapping[DeviceId, int] = EMPTY) -> list[OwnDevice]:
        """The devices in the verified list of a file. Raises NotRegistered."""
        own = store.own()
        listed = store.lists.current(own.account)
        if listed is None:
            raise NotRegistered
        return [
            cls(
                entry.device,
                store.fact(f"device name {entry.device}"),
                entry.added,
                seen.get(entry.device),
                entry.device == own.device,
                entry.device == PRIMARY,
            )
            for entry in listed.devices
        ]


class OwnDevices:
    """Lists, revokes and leaves. Errors are RaychatErrors."""

    def __init__(self, store: DeviceStore, api: HttpApi, clock: Clock) -> None:
        self._store = store
        self._api = api
        self._clock = clock

    def _caller(self) -> Caller:
        own = self._store.own()
        return Caller(own.account, own.device, own.token)

    def current(self) -> DeviceList:
        """The verified list. Raises NotRegistered."""
        listed = self._store.lists.current(self._store.own().account)
        if listed is None:
            raise NotRegistered
        return listed

    async def fetch(self) -> list[OwnDevice]:
        """All devices of the account. Raises GhostDevice, BadSignature, ListRolledBack."""
        own = self._store.own()
        found = await self._api.devices(self._caller())
        if found.signed is not None and found.signed != self._store.lists.signed(own.account):
            with self._store.transaction():
                key = self.current().account_key
                self._store.lists.take(own.account, found.signed, self._clock(), key)
        return OwnDevice.known(self._store, found.seen)

    async def revoke(self, device: DeviceId) -> None:
        """Take a linked device out of the account: it is cut off at once and gets nothing more.

        Raises Denied (not the primary), NotFound, Unavailable.
        """
        if self._store.own().device != PRIMARY:
            raise Denied("Only the primary device revokes others; do it there.")
        if device == PRIMARY:
            raise Denied("The primary device cannot be revoked; delete the account instead.")
        try:
            await self._revoke(device, self.current().numbers())
        except ListStale:  # it was signed anew meanwhile, or another device has left
            await self.fetch()
            there = await self._api.devices(self._caller())
            await self._revoke(device, [number for number, _ in there.devices])

    async def _revoke(self, device: DeviceId, there: Sequence[DeviceId]) -> None:
        own, now = self._store.own(), self._clock()
        listed = self.current()
        if listed.identity(device) is None:
            raise NotFound("The account has no such device.")
        kept = tuple(e for e in listed.devices if e.device in there and e.device != device)
        newer = DeviceList(own.account, listed.version + 1, now, kept)
        with self._store.transaction():
            signed = self._store.lists.sign(newer, self._store.keys.identity_key_pair())
        await self._api.put_list(self._caller(), signed)
        with self._store.transaction():
            self._store.lists.take(own.account, signed, now, listed.account_key)
            self._store.connection.execute("DELETE FROM transfer WHERE device = ?", (device,))

    async def leave(self) -> None:
        """Take this linked device out of the account. Its file stays, and is of no more use."""
        if self._store.own().device == PRIMARY:
            raise Denied("The primary device cannot leave; delete the account instead.")
        await self._api.leave(self._caller())

    async def new_token(self) -> Secret:
        """Ask for another token; keep it before it is used."""
        return await self._api.rotate_token(self._caller())

    def token_is_old(self) -> bool:
        """Whether the token has been in use for `limits.TOKEN_DAYS`."""
        now, made = self._clock(), self._store.fact("token made")
        if made is None:
            with self._store.transaction():
                self._store.set_fact("token made", now)
            return False
        return not 0 <= now - int(made) < limits.TOKEN_DAYS * _DAY_MS

    async def renew_token(
        self, online: asyncio.Event, rotate: Callable[[], Awaitable[None]]
    ) -> None:
        """Replace the token by `rotate` when it is old, for ever, while `online` is set."""
        while True:
            await online.wait()
            await asyncio.sleep(random.uniform(*_LOOK_SECONDS))  # noqa: S311 (jitter)
            try:
                if self.token_is_old():
                    await rotate()
            except RaychatError as error:
                log.info("the token was not renewed: %s", error.code)
