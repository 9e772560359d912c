"""The key server of a host: takes the keys of its devices and hands them out.

A one-time key is given to one person only, and is gone from the store before anyone sees it.
When the X25519 ones are used up a bundle comes without; in place of a Kyber one it then has the
last-resort key, so that a device without one-time keys can still be written to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

import msgpack

from raychat import limits
from raychat.errors import BadToken, Malformed, NoKeys, NotFound, TooLarge
from raychat.ids import AccountId, Address, DeviceId
from raychat.keys import records
from raychat.keys.upload import Identity, KeyUpload, parse_refill, parse_registration
from raychat.store.protocol import KeyStore

SIGNATURES_IN_LOOP: Final = 4
"""More of them are checked in a thread: 100 would hold up the host's messages for 10 ms."""


class Vetted(NamedTuple):
    """An upload whose signatures are those of `identity`."""

    upload: KeyUpload
    identity: Identity


class KeyServer:
    """Keys of the devices in one `KeyStore`. What the store raises passes through."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
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
    ) -> Vetted:
        """Check an upload; nothing is changed. `upload` is the object `keys` of PROTOCOL.md,
        section 4, as it is or in msgpack.

        A registration brings its own identity key and is checked against that, a refill against
        the one that is stored. Raises Malformed, TooLarge, InvalidKey, BadSignature, and NotFound
        for a refill of a device without an identity.
        """
        fields = _unpack(upload) if isinstance(upload, bytes) else upload
        keys = parse_registration(fields) if registering else parse_refill(fields)
        identity = keys.identity or await self._identity(account, device)
        if identity is None:
            raise NotFound("This device has no identity key here; register it first.")
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

    async def count(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        """One-time keys left of a device: X25519, Kyber."""
        return await self._store.count_keys(account, device)

    async def bundles(self, account: AccountId) -> list[dict[str, Any]]:
        """A bundle for each device of an account, ready for JSON. Its one-time keys are gone
        from the store for good. Raises NoKeys."""
        taken = await self._store.take_keys(account)
        if not taken:
            raise NoKeys
        return [records.bundle(keys) for keys in sorted(taken, key=lambda keys: keys.device)]

    async def _identity(self, account: AccountId, device: DeviceId) -> Identity | None:
        keys = await self._store.lasting_keys(account, device)
        return Identity(keys.registration, keys.identity) if keys is not None else None

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
