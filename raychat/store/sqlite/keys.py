"""Pre-keys in a host's SQLite file. Each call is a durable transaction of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import apsw

from raychat.ids import AccountId, DeviceId
from raychat.store.protocol import DeviceKeys, TakenKeys


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
            if keys is not None:
                db.execute(
                    "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)",
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

    async def lasting_keys(self, account: AccountId, device: DeviceId) -> DeviceKeys | None:
        row = self._reader.execute(
            "SELECT registration, identity, signed_pre_key, last_resort FROM keys"
            " WHERE account = ? AND device = ?",
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

    async def take_keys(self, account: AccountId) -> list[TakenKeys]:
        """Keys of every device of an account. A one-time key is given to one taker only: it
        is gone, durably, before this returns; the last-resort Kyber key is given for ever."""
        taken = []
        async with self._apart() as db:
            for device, incarnation, *keys in db.execute(
                "SELECT device, incarnation, registration, identity, signed_pre_key, last_resort"
                " FROM keys JOIN device USING (account, device) WHERE account = ?",
                (account,),
            ).fetchall():
                pre_key, kyber = (
                    db.execute(
                        "DELETE FROM prekey WHERE rowid = (SELECT rowid FROM prekey WHERE"
                        " account = ? AND device = ? AND kind = ? ORDER BY id LIMIT 1)"
                        " RETURNING record",
                        (account, device, kind),
                    ).get
                    for kind in (0, 1)
                )
                lasting = DeviceKeys(*keys)
                kyber = kyber or lasting.last_resort
                taken.append(TakenKeys(device, incarnation, lasting, pre_key, kyber))
        return taken

    async def forget_keys(self, account: AccountId, device: DeviceId) -> None:
        """A device starts anew: nobody may be given its old keys."""
        async with self._apart() as db:
            for table in ("keys", "prekey", "uploaded"):
                db.execute(
                    f"DELETE FROM {table} WHERE account = ? AND device = ?",  # noqa: S608
                    (account, device),
                )
