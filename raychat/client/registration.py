"""Registering a device: its keys are made and kept first, then a code proves the number.

If anything breaks off, registering again is safe: the device keeps its identity, and each
success gives it a new token and incarnation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from raychat import limits
from raychat.client import keyfile
from raychat.client.http import HttpApi, Registered, Registration, publication
from raychat.client.keys import KeyStore
from raychat.client.numbers import phone_number
from raychat.client.store import DeviceStore
from raychat.client.tls import session
from raychat.clock import Clock, wall_ms
from raychat.errors import BadCode
from raychat.ids import PhoneNumber

AskCode = Callable[[Registration, BadCode | None], Awaitable[str]]
"""Gives the code that came to the number; called again with the error after a wrong one."""


async def register(
    number: str,
    *,
    code: AskCode,
    server: str,
    profile: str | None = None,
    home: Path | None = None,
    passphrase: str | None = None,
    clock: Clock = wall_ms,
) -> Registered:
    """Make the profile a device of `number` at `server` (a URL).

    Raises BadNumber, BadCode after the last try, CodeExpired, RateLimited, Unavailable,
    StoreInUse, StoreError.
    """
    parsed = phone_number(number)
    store = DeviceStore(keyfile.directory(profile, home), passphrase)
    try:
        async with session() as http:
            return await _register(store, HttpApi(http, server), parsed, server, code, clock)
    finally:
        store.close()


async def _register(
    store: DeviceStore,
    api: HttpApi,
    number: PhoneNumber,
    server: str,
    code: AskCode,
    clock: Clock,
) -> Registered:
    with store.transaction():
        store.prepare(number, server)
    registration = await api.begin(number)
    await _prove(api, registration, code)
    keys = store.keys
    with store.transaction():
        long_keys = keys.make_long_keys(clock())
        fill(keys, clock(), limits.PRE_KEY_UPLOAD, limits.PRE_KEY_UPLOAD)
        pre_keys, kyber = keys.unpublished(limits.PRE_KEY_UPLOAD)
    registered = await api.finish(
        registration,
        publication(keys.registration_id(), keys.identity_key_pair(), long_keys, pre_keys, kyber),
    )
    with store.transaction():
        keys.published(pre_keys, kyber)
        store.register(*registered)
    return registered


async def _prove(api: HttpApi, registration: Registration, code: AskCode) -> None:
    wrong: BadCode | None = None
    for _ in range(limits.CODE_TRIES):
        try:
            return await api.confirm(registration, await code(registration, wrong))
        except BadCode as error:
            wrong = error
    assert wrong is not None
    raise wrong


def fill(keys: KeyStore, now: int, pre_keys: int, kyber: int) -> None:
    """Make one-time keys until so many of each kind wait to be published."""
    there = keys.unpublished(limits.PRE_KEY_UPLOAD)
    keys.make_one_time_keys(now, max(0, pre_keys - len(there[0])), max(0, kyber - len(there[1])))


__all__ = ["AskCode", "fill", "register"]
