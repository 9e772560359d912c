"""Pre-keys in Cassandra. Each call is a turn of its own in the journal.

The row of a device says which one-time keys are left: (generation, lasting keys, ids left and
highest id ever taken in of X25519, the same two of Kyber). The keys themselves never change and
stay where they are until their block is dropped: taking one changes the one row and leaves no
tombstone. A device that starts anew gets a new generation, which no key of before is in.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgpack

from raychat.ids import AccountId, DeviceId
from raychat.store.cassandra.layer import Change, Kind, Layer, overlay
from raychat.store.cassandra.schema import PREKEY_BLOCK_BITS
from raychat.store.cassandra.session import Session
from raychat.store.protocol import DeviceKeys, NewKeys, TakenKeys

_KEYS: Final = "SELECT keys FROM keys WHERE shard = ? AND account = ? AND device = ?"
_PREKEY: Final = (
    "SELECT record FROM prekey WHERE shard = ? AND account = ? AND device = ?"
    " AND generation = ? AND kind = ? AND block = ? AND id = ?"
)
_DEVICES: Final = (
    "SELECT device, incarnation, token_hash FROM account WHERE shard = ? AND account = ?"
)


class Keys(NamedTuple):
    """What is kept of a device's keys. `last` is -1 before the first one."""

    generation: int
    lasting: Sequence[Any] | None
    left: tuple[Sequence[int], Sequence[int]]
    last: tuple[int, int]


class CassandraKeys:
    """The `KeyStore` part of a `CassandraStore`."""

    _session: Session
    _shard: str
    _layers: tuple[Layer, ...]
    _turn: asyncio.Lock

    async def _happen(self, changes: list[Change]) -> None:
        raise NotImplementedError

    def _generation(self) -> int:
        raise NotImplementedError

    async def _row(
        self, kind: Kind, partition: Any, rest: Any, statement: str, key: Sequence[Any]
    ) -> Any:
        raise NotImplementedError

    async def _keys_of(self, account: AccountId, device: DeviceId) -> Keys | None:
        value = await self._row(Kind.KEYS, account, device, _KEYS, (account, device))
        if value is None:
            return None
        if len(value) == 1:  # a row of the table
            value = msgpack.unpackb(value[0], use_list=False)
        return Keys(*value)

    async def put_keys(
        self,
        account: AccountId,
        device: DeviceId,
        keys: DeviceKeys | None,
        pre_keys: Sequence[tuple[int, bytes]],
        kyber_pre_keys: Sequence[tuple[int, bytes]],
    ) -> None:
        """Replace the device's lasting keys (if given) and add one-time ones.

        Ids of one-time keys only grow: one not above the highest that was ever taken in is left
        out, so that an upload that is repeated brings no key back that somebody has already.
        """
        async with self._turn:
            old = await self._keys_of(account, device)
            new = old or Keys(self._generation(), None, ((), ()), (-1, -1))
            if keys is not None:
                new = new._replace(lasting=tuple(keys))
            await self._happen(_added(account, device, new, (pre_keys, kyber_pre_keys)))

    async def lasting_keys(self, account: AccountId, device: DeviceId) -> DeviceKeys | None:
        keys = await self._keys_of(account, device)
        return DeviceKeys(*keys.lasting) if keys and keys.lasting else None

    async def count_keys(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        """One-time keys left: X25519, Kyber."""
        keys = await self._keys_of(account, device)
        return (len(keys.left[0]), len(keys.left[1])) if keys else (0, 0)

    async def take_keys(
        self,
        account: AccountId,
        devices: Sequence[DeviceId] | None = None,
        one_time: bool = True,
    ) -> list[TakenKeys]:
        """Keys of the named devices of an account, or of all; an unknown one is left out.

        A one-time key is given to one taker only: it is gone, durably, before this returns. Where
        none is left, or with `one_time` false, the key of last resort is given, for ever. Which of
        the one-time keys is given is left to chance: those who take keys now and then learn
        little from the ids about how many were taken in between.
        """
        if not one_time:
            return [
                TakenKeys(device, incarnation, keys, keys.last_resort_pre_key, keys.last_resort)
                for device, incarnation, _, keys in await self._of_account(account, devices)
            ]
        async with self._turn:
            taken = []
            changes: list[Change] = []
            for device, incarnation, kept, keys in await self._of_account(account, devices):
                records: list[bytes | None] = [None, None]
                left = list(kept.left)
                for kind in (0, 1):
                    if kept.left[kind]:
                        number = secrets.choice(kept.left[kind])
                        records[kind] = await self._record(account, device, kept, kind, number)
                        left[kind] = tuple(id_ for id_ in kept.left[kind] if id_ != number)
                        changes += _emptied(account, device, kept, kind, number, left[kind])
                changes.append(_put(account, device, kept._replace(left=(left[0], left[1]))))
                pre_key = records[0] or keys.last_resort_pre_key
                kyber = records[1] or keys.last_resort
                taken.append(TakenKeys(device, incarnation, keys, pre_key, kyber))
            # A stale owner must not answer either, also where nothing is left to take.
            await self._happen(changes)
            return taken

    async def _record(
        self, account: AccountId, device: DeviceId, keys: Keys, kind: int, number: int
    ) -> bytes | None:
        block = (account, device, keys.generation, kind, number >> PREKEY_BLOCK_BITS)
        value = await self._row(Kind.PREKEY, block, number, _PREKEY, (*block, number))
        record: bytes | None = value[0] if isinstance(value, tuple) else value  # tuple: the table's
        return record

    async def _of_account(
        self, account: AccountId, wanted: Sequence[DeviceId] | None
    ) -> list[tuple[DeviceId, int, Keys, DeviceKeys]]:
        before = self._layers
        rows = await self._session.execute(_DEVICES, (self._shard, account))
        stored = {row[0]: (0, row[1], row[2]) for row in rows if row[0] is not None}
        there = overlay(self._layers + before, Kind.DEVICE, account, stored)
        found = []
        for device, (_, incarnation, token_hash, *_rest) in sorted(there.items()):
            if token_hash and (wanted is None or device in wanted):
                kept = await self._keys_of(account, device)
                if kept and kept.lasting:
                    found.append((DeviceId(device), incarnation, kept, DeviceKeys(*kept.lasting)))
        return found

    async def forget_keys(self, account: AccountId, device: DeviceId) -> None:
        """A device starts anew: nobody may be given its old keys."""
        async with self._turn:
            await self._happen(erased(account, device, await self._keys_of(account, device)))


def erased(account: AccountId, device: DeviceId, old: Keys | None) -> list[Change]:
    """A device has no keys any more."""
    changes: list[Change] = [(Kind.KEYS, account, device, None)]
    if old is not None:
        for kind in (0, 1):
            blocks = {number >> PREKEY_BLOCK_BITS for number in old.left[kind]}
            if old.last[kind] >= 0:
                blocks.add(old.last[kind] >> PREKEY_BLOCK_BITS)
            for block in sorted(blocks):
                partition = (account, device, old.generation, kind, block)
                changes.append((Kind.DROP, partition, 0, None))
    return changes


def replaced(
    account: AccountId, device: DeviceId, old: Keys | None, keys: NewKeys, generation: int
) -> list[Change]:
    """A device has these keys in the place of all it had."""
    new = Keys(generation, tuple(keys.lasting), ((), ()), (-1, -1))
    added = _added(account, device, new, (keys.pre_keys, keys.kyber_pre_keys))
    return erased(account, device, old) + added


def _put(account: AccountId, device: DeviceId, keys: Keys) -> Change:
    return (Kind.KEYS, account, device, tuple(keys))


def _added(
    account: AccountId,
    device: DeviceId,
    keys: Keys,
    records: tuple[Sequence[tuple[int, bytes]], Sequence[tuple[int, bytes]]],
) -> list[Change]:
    changes: list[Change] = []
    left, last = list(keys.left), list(keys.last)
    for kind in (0, 1):
        new = {number: record for number, record in records[kind] if number > last[kind]}
        for number, record in new.items():
            block = (account, device, keys.generation, kind, number >> PREKEY_BLOCK_BITS)
            changes.append((Kind.PREKEY, block, number, record))
        left[kind] = (*left[kind], *new)
        last[kind] = max((last[kind], *new))
    kept = keys._replace(left=(left[0], left[1]), last=(last[0], last[1]))
    return [*changes, _put(account, device, kept)]


def _emptied(
    account: AccountId, device: DeviceId, keys: Keys, kind: int, taken: int, left: Sequence[int]
) -> list[Change]:
    """The block of a key that is taken goes if it was the last one and none can come into it."""
    block = taken >> PREKEY_BLOCK_BITS
    if block >= keys.last[kind] >> PREKEY_BLOCK_BITS:
        return []
    if any(number >> PREKEY_BLOCK_BITS == block for number in left):
        return []
    return [(Kind.DROP, (account, device, keys.generation, kind, block), 0, None)]
