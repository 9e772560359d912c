"""A device's sender keys, in its file: `raychat.crypto`'s SenderKeyStore.

Who holds our key is rows of its own: it changes rarely and may be long, while the key changes
with each message.
"""

from __future__ import annotations

import apsw

from raychat.crypto.group_message import DistributionId
from raychat.crypto.sender_keys import SenderKeyRecord, SendingKey
from raychat.ids import Address


class SqliteSenderKeyStore:
    """Implements `SenderKeyStore`. Calls belong into the transaction of `DeviceStore`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def load_sending_key(self, distribution: DistributionId) -> SendingKey | None:
        record = self._db.execute(
            "SELECT record FROM sending_key WHERE distribution = ?", (distribution,)
        ).get
        return SendingKey.from_bytes(record) if record is not None else None

    def store_sending_key(self, distribution: DistributionId, key: SendingKey) -> None:
        self._db.execute(
            "INSERT INTO sending_key VALUES (?1, ?2) ON CONFLICT DO UPDATE SET record = ?2",
            (distribution, key.to_bytes()),
        )

    def load_holders(self, distribution: DistributionId) -> frozenset[Address]:
        rows = self._db.execute(
            "SELECT account, device FROM sending_key_holder WHERE distribution = ?",
            (distribution,),
        ).fetchall()
        return frozenset(Address(*row) for row in rows)

    def store_holders(self, distribution: DistributionId, holders: frozenset[Address]) -> None:
        before = self.load_holders(distribution)
        self._db.executemany(
            "DELETE FROM sending_key_holder WHERE distribution = ? AND account = ? AND device = ?",
            [(distribution, *address) for address in before - holders],
        )
        self._db.executemany(
            "INSERT INTO sending_key_holder VALUES (?, ?, ?)",
            [(distribution, *address) for address in holders - before],
        )

    def load_sender_key(
        self, sender: Address, distribution: DistributionId
    ) -> SenderKeyRecord | None:
        record = self._db.execute(
            "SELECT record FROM sender_key WHERE account = ? AND device = ? AND distribution = ?",
            (*sender, distribution),
        ).get
        return SenderKeyRecord.from_bytes(record) if record is not None else None

    def store_sender_key(
        self, sender: Address, distribution: DistributionId, record: SenderKeyRecord
    ) -> None:
        self._db.execute(
            "INSERT INTO sender_key VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET record = ?4",
            (*sender, distribution, record.to_bytes()),
        )
