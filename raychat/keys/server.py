"""The key server of a host: takes the keys of its devices and hands them out.

A one-time key is given to one person only, and is gone from the store before anyone sees it.
When none is left the bundle has the key of last resort in its place: it looks the same, and a
device without one-time keys can still be written to.

Two budgets stand against draining a device of its one-time keys, which would cost its next
sessions some forward secrecy. Who fetches the same account's keys too often is refused. An
account whose keys are fetched too often by all together gives keys of last resort only, until
it is quiet again: an attacker with many accounts gains nothing more, and contacts still start
sessions. The budgets are kept in memory; a restarted host begins with full ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import ceil
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

import msgpack

from raychat import limits
from raychat.budgets import Budget, Budgets
from raychat.errors import BadToken, Malformed, NoKeys, NotFound, RateLimited, TooLarge
from raychat.ids import AccountId, Address, DeviceId
from raychat.keys import records
from raychat.keys.upload import Identity, KeyUpload, parse_refill, parse_registration
from raychat.store.protocol import KeyStore, NewKeys

SIGNATURES_IN_LOOP: Final = 4
"""More of them are checked in a thread: 100 would hold up the host's messages for 10 ms."""


FETCHES: Final = Budget(limits.KEY_FETCHES, 1 / limits.KEY_FETCH_SECONDS)
DRAIN: Final = Budget(limits.KEY_DRAIN, 1 / limits.KEY_DRAIN_SECONDS)


class Vetted(NamedTuple):
    """An upload whose signatures are those of `identity`."""

    upload: KeyUpload
    identity: Identity


class KeyServer:
    """Keys of the devices in one `KeyStore`. What the store raises passes through."""

    def __init__(self, store: KeyStore) -> None:
        self.held_back = 0
        """Fetches that were given no one-time keys because the account's are asked for too
        often: that this grows fast is worth an alarm."""
        self._store = store
        # Refusing everybody when the table is full would let one attacker stop all new
        # sessions; keys of last resort stop none.
        self._fetches = Budgets(FETCHES, fails="open")
        self._drain = Budgets(DRAIN, fails="closed")
        self._locks: WeakValueDictionary[Address, asyncio.Lock] = WeakValueDictionary()

    async def put(
        self,
        account: AccountId,
        device: DeviceId,
        upload: bytes | Mapping[str, object],
        registering: bool,
    ) -> None:
        """Check and keep what a device uploads: `vet`, then `keep`, whose errors it raises."""
        await self.keep(account, device, await self.vet(account, device, upload, registering))

    async def vet(
        self,
        account: AccountId,
        device: DeviceId,
        upload: bytes | Mapping[str, object],
        registering: bool,
        device_signature: bytes | None = None,
    ) -> Vetted:
        """Check an upload; nothing is changed. `upload` is the object `keys` of PROTOCOL.md,
        section 4, as it is or in msgpack.

        A registration brings its own identity key and is checked against that, a refill against
        the one that is stored. `device_signature` is a linked device's, with its registration
        only; it is kept and handed out, and whoever has the account's key checks it.
        Raises Malformed, TooLarge, InvalidKey, BadSignature, and NotFound for a refill of a device
        without an identity.
        """
        fields = _unpack(upload) if isinstance(upload, bytes) else upload
        keys = parse_registration(fields) if registering else parse_refill(fields)
        if keys.identity is not None:
            identity = keys.identity._replace(device_signature=device_signature)
        else:
            found = await self._identity(account, device)
            if found is None:
                raise NotFound("This device has no identity key here; register it first.")
            identity = found
        if keys.signatures() > SIGNATURES_IN_LOOP:
            await asyncio.to_thread(keys.verify, identity.key)
        else:
            keys.verify(identity.key)
        return Vetted(keys, identity)

    async def keep(self, account: AccountId, device: DeviceId, vetted: Vetted) -> None:
        """Store what was vetted; durable when it returns.

        A registration replaces all keys the device had. Raises TooLarge if a refill would leave
        more than limits.PRE_KEYS of a kind, BadToken if the device was registered anew since.
        """
        upload, identity = vetted
        address = Address(account, device)
        lock = self._locks.setdefault(address, asyncio.Lock())
        async with lock:
            if upload.identity is not None:
                # Old one-time keys would be given out beside the new identity. A crash here
                # leaves a device without keys, whose registration has not succeeded either.
                await self._store.forget_keys(account, device)
            elif await self._identity(account, device) != identity:
                raise BadToken
            else:
                await self._check_room(address, upload)
            await self._store.put_keys(
                account,
                device,
                records.device_keys(identity, upload.lasting) if upload.lasting else None,
                records.one_time_keys(upload.pre_keys),
                records.one_time_keys(upload.kyber_pre_keys),
            )

    @asynccontextmanager
    async def registering(
        self, account: AccountId, device: DeviceId, vetted: Vetted
    ) -> AsyncIterator[NewKeys]:
        """All keys of a registration, for a store transaction that makes them the device's.
        Till the block ends no refill is taken in, which might be of the keys before them."""
        upload, identity = vetted
        assert upload.lasting is not None
        address = Address(account, device)
        async with self._locks.setdefault(address, asyncio.Lock()):
            yield NewKeys(
                records.device_keys(identity, upload.lasting),
                records.one_time_keys(upload.pre_keys),
                records.one_time_keys(upload.kyber_pre_keys),
            )

    async def count(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        """One-time keys left of a device: X25519, Kyber."""
        return await self._store.count_keys(account, device)

    async def bundles(
        self,
        account: AccountId,
        requester: AccountId,
        devices: Sequence[DeviceId] | None,
        now: int,
    ) -> list[dict[str, Any]]:
        """A bundle for each of the named devices of an account (all without names; an unknown one
        is left out), in the order of their numbers and ready for JSON.

        Its one-time keys are gone from the store for good. Beyond the budget of the account it
        comes with keys of last resort, in the same shape. `requester` is the account that asks,
        `now` is in ms. Raises RateLimited beyond the budget of requester and account, NoKeys.
        """
        seconds = now / 1000
        wait = self._fetches.take((requester, account), seconds)
        if wait > 0:
            pause = ceil(wait)
            raise RateLimited(
                f"The keys of this account were fetched too often; ask again in {pause} seconds.",
                {"seconds": pause},
            )
        one_time = self._drain.take(account, seconds) == 0
        taken = await self._store.take_keys(account, devices, one_time)
        if not taken:
            raise NoKeys
        if not one_time:
            self.held_back += 1
        return [records.bundle(keys) for keys in sorted(taken, key=lambda keys: keys.device)]

    async def _identity(self, account: AccountId, device: DeviceId) -> Identity | None:
        keys = await self._store.lasting_keys(account, device)
        if keys is None:
            return None
        return Identity(keys.registration, keys.identity, keys.device_signature)

    async def _check_room(self, address: Address, upload: KeyUpload) -> None:
        left = await self._store.count_keys(*address)
        added = (len(upload.pre_keys), len(upload.kyber_pre_keys))
        for name, have, more in zip(("pre_keys", "kyber_pre_keys"), left, added, strict=True):
            if more and have + more > limits.PRE_KEYS:
                raise TooLarge(
                    f"A device has at most {limits.PRE_KEYS} {name}, and {have} are left;"
                    f" upload {max(limits.PRE_KEYS - have, 0)} or fewer."
                )


def _unpack(upload: bytes) -> Mapping[str, object]:
    try:
        fields = msgpack.unpackb(upload)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("The keys cannot be read.") from error
    if not isinstance(fields, dict):
        raise Malformed("The keys are an object.")
    return fields
