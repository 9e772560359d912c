"""Pre-keys in a host's SQLite file. Each call is a durable transaction of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import apsw

from raychat.ids import AccountId, DeviceId
from raychat.store.protocol import DeviceKeys, NewKeys, TakenKeys

_LASTING: Final = ", ".join(DeviceKeys._fields)


class SqliteKeys:
    """The `KeyStore` part of a `SqliteStore`."""

    _reader: apsw.Connection

    def _apart(self) -> AbstractAsyncContextManager[apsw.Connection]:
        """A durable transaction beside the turns. Raises Fenced, StoreError."""
        raise NotImplementedError

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
        async with self._apart() as db:
            _add(db, account, device, keys, pre_keys, kyber_pre_keys)

    async def lasting_keys(self, account: AccountId, device: DeviceId) -> DeviceKeys | None:
        row = self._reader.execute(
            f"SELECT {_LASTING} FROM keys WHERE account = ? AND device = ?",  # noqa: S608
            (account, device),
        ).fetchone()
        return DeviceKeys(*row) if row else None

    async def count_keys(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        """One-time keys left: X25519, Kyber."""
        counts = dict(
            self._reader.execute(
                "SELECT kind, count(*) FROM prekey WHERE account = ? AND device = ? GROUP BY kind",
                (account, device),
            ).fetchall()
        )
        return counts.get(0, 0), counts.get(1, 0)

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
        wanted = None if devices is None else set(devices)
        if not one_time:
            return [
                TakenKeys(device, incarnation, keys, keys.last_resort_pre_key, keys.last_resort)
                for device, incarnation, keys in self._of_account(self._reader, account, wanted)
            ]
        taken = []
        async with self._apart() as db:
            for device, incarnation, keys in self._of_account(db, account, wanted):
                pre_key, kyber = (
                    db.execute(
                        "DELETE FROM prekey WHERE rowid = (SELECT rowid FROM prekey WHERE"
                        " account = ? AND device = ? AND kind = ? ORDER BY random() LIMIT 1)"
                        " RETURNING record",
                        (account, device, kind),
                    ).get
                    for kind in (0, 1)
                )
                pre_key = pre_key or keys.last_resort_pre_key
                kyber = kyber or keys.last_resort
                taken.append(TakenKeys(device, incarnation, keys, pre_key, kyber))
        return taken

    @staticmethod
    def _of_account(
        db: apsw.Connection, account: AccountId, wanted: set[DeviceId] | None
    ) -> list[tuple[DeviceId, int, DeviceKeys]]:
        rows = db.execute(
            f"SELECT device, incarnation, {_LASTING} FROM keys"  # noqa: S608
            " JOIN device USING (account, device)"
            " WHERE account = ? AND token_hash != x'' ORDER BY device",
            (account,),
        ).fetchall()
        return [
            (device, incarnation, DeviceKeys(*keys))
            for device, incarnation, *keys in rows
            if wanted is None or device in wanted
        ]

    async def forget_keys(self, account: AccountId, device: DeviceId) -> None:
        """A device starts anew: nobody may be given its old keys."""
        async with self._apart() as db:
            erase(db, account, device)


def replace(
    db: apsw.Connection, account: AccountId, device: DeviceId, keys: NewKeys | None
) -> None:
    """Put a device's keys in the place of all it had, in a transaction of the caller's."""
    erase(db, account, device)
    if keys is not None:
        _add(db, account, device, *keys)


def erase(db: apsw.Connection, account: AccountId, device: DeviceId) -> None:
    for table in ("keys", "prekey", "uploaded"):
        db.execute(
            f"DELETE FROM {table} WHERE account = ? AND device = ?",  # noqa: S608
            (account, device),
        )


def _add(
    db: apsw.Connection,
    account: AccountId,
    device: DeviceId,
    keys: DeviceKeys | None,
    pre_keys: Sequence[tuple[int, bytes]],
    kyber_pre_keys: Sequence[tuple[int, bytes]],
) -> None:
    if keys is not None:
        db.execute(
            "INSERT OR REPLACE INTO keys (account, device, registration, identity,"
            " signed_pre_key, last_resort, last_resort_pre_key, device_signature)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (account, device, *keys),
        )
    for kind, records in ((0, pre_keys), (1, kyber_pre_keys)):
        last = db.execute(
            "SELECT last FROM uploaded WHERE account = ? AND device = ? AND kind = ?",
            (account, device, kind),
        ).get
        new = [record for record in records if last is None or record[0] > last]
        if new:
            db.executemany(
                "INSERT INTO prekey VALUES (?, ?, ?, ?, ?)",
                [(account, device, kind, number, record) for number, record in new],
            )
            db.execute(
                "INSERT OR REPLACE INTO uploaded VALUES (?, ?, ?, ?)",
                (account, device, kind, max(number for number, _ in new)),
            )
