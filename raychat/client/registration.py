"""Registering a device: its keys are made and kept first, then a code proves the number.

If anything breaks off, registering again is safe: the device keeps its identity, and each
success gives it a new token and incarnation.
"""

from __future__ import annotations

from pathlib import Path

from raychat import limits
from raychat.client import keyfile
from raychat.client.http import HttpApi, Registered, Registration, publication
from raychat.client.keys import KeyStore
from raychat.client.numbers import phone_number
from raychat.client.proving import AskChallenge, AskCode, AskPin, prove, with_pin
from raychat.client.store import DeviceStore
from raychat.client.tls import session
from raychat.clock import Clock, wall_ms
from raychat.crypto.device_list import DeviceList, ListedDevice, SignedDeviceList
from raychat.errors import Malformed
from raychat.ids import PRIMARY, AccountId


async def register(
    number: str,
    *,
    code: AskCode,
    server: str,
    profile: str | None = None,
    home: Path | None = None,
    passphrase: str | None = None,
    pin: str | AskPin | None = None,
    challenge: AskChallenge | None = None,
    voice: bool = False,
    clock: Clock = wall_ms,
) -> Registered:
    """Make the profile the primary device of `number` at `server` (a URL).

    Other devices of the account are removed. `pin` is that of the registration lock, if there is
    one, `challenge` is asked what the server wants solved before it sends a code, which it does
    by a call if `voice`. Raises BadNumber, ChallengeRequired, BadCode after the last try,
    CodeExpired, Locked, BadPin, RateLimited, Unavailable, StoreInUse, StoreError.
    """
    parsed = phone_number(number)
    store = DeviceStore(keyfile.directory(profile, home), passphrase)
    try:
        async with session() as http:
            api = HttpApi(http, server)
            with store.transaction():
                store.prepare(parsed, server)
            registration = await prove(api, parsed, code, challenge=challenge, voice=voice)
            account, listed = await with_pin(lambda given: api.redeem(registration, given), pin)
            return await _register(store, api, registration, account, listed, clock)
    finally:
        store.close()


async def _register(
    store: DeviceStore,
    api: HttpApi,
    registration: Registration,
    account: AccountId,
    listed: bytes | None,
    clock: Clock,
) -> Registered:
    keys = store.keys
    with store.transaction():
        signed = first_list(store, account, listed, clock())
        long_keys = keys.make_long_keys(clock())
        fill(keys, clock(), limits.PRE_KEY_UPLOAD, limits.PRE_KEY_UPLOAD)
        pre_keys, kyber = keys.unpublished(limits.PRE_KEY_UPLOAD)
    published = publication(
        keys.registration_id(), keys.identity_key_pair(), long_keys, pre_keys, kyber
    )
    registered = await api.finish(registration, published, signed)
    if registered.account != account or registered.device != PRIMARY:
        raise Malformed("The server has registered another device than it said.")
    with store.transaction():
        keys.published(pre_keys, kyber)
        keys.long_keys_published(long_keys, clock())
        store.register(*registered)
        store.lists.take(account, signed, clock(), keys.identity_key_pair().public)
    return registered


def first_list(store: DeviceStore, account: AccountId, there: bytes | None, now: int) -> bytes:
    """The list this device registers with as the primary: it alone, signed by it.

    `there` is the list the server has. Whatever it and this device have signed is older.
    """
    identity = store.keys.identity_key_pair()
    version = 1
    if there is not None:
        before = SignedDeviceList.parse(there)
        if before.account_key == identity.public:
            version = before.verify(identity.public).version + 1
    entry = ListedDevice(PRIMARY, identity.public, now)
    return store.lists.sign(DeviceList(account, version, now, (entry,)), identity)


def fill(keys: KeyStore, now: int, pre_keys: int, kyber: int) -> None:
    """Make one-time keys until so many of each kind wait to be published."""
    there = keys.unpublished(limits.PRE_KEY_UPLOAD)
    keys.make_one_time_keys(now, max(0, pre_keys - len(there[0])), max(0, kyber - len(there[1])))


__all__ = ["AskCode", "fill", "register"]
