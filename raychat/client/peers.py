"""The devices of other accounts: whom a message is addressed to, and what came from them.

Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from raychat.client.history import Received
from raychat.client.rows import Rows
from raychat.ids import AccountId, DeviceId


class Peers(Rows):
    """The tables `peer_device` and `received`."""

    def devices(self, account: AccountId) -> dict[DeviceId, int]:
        """The devices known of an account, each with its incarnation."""
        return dict(
            self._rows("SELECT device, incarnation FROM peer_device WHERE account = ?", account)
        )

    def put_device(self, account: AccountId, device: DeviceId, incarnation: int) -> None:
        """A device is there; an older incarnation than the known one says nothing new."""
        self._db.execute(
            "INSERT INTO peer_device VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET incarnation = max(incarnation, excluded.incarnation)",
            (account, device, incarnation),
        )

    def remove_device(self, account: AccountId, device: DeviceId) -> None:
        self._db.execute(
            "DELETE FROM peer_device WHERE account = ? AND device = ?", (account, device)
        )

    def last_received(self, name: Received) -> int:
        """The last message id taken from the incarnation of the device that `name` is of."""
        row = self._row(
            "SELECT last FROM received WHERE account = ? AND device = ? AND incarnation = ?",
            *name[:3],
        )
        return row[0] if row else 0

    def set_received(self, name: Received) -> None:
        self._db.execute(
            "INSERT INTO received VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET last = excluded.last",
            name,
        )
