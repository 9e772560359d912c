"""Healing: a message that could not be opened is asked for, and sent once more.

    cannot open ──Retry, in a fresh session──▶ sender ──Resend──▶ opened, under its first name

The device that cannot open a message acknowledges it without a ✓✓, remembers its name and asks
the sender's devices for it. Of the failures in a row it asks after longer and longer pauses, and
for each message at most `limits.RETRY_TRIES` times: two devices that can never read each other
fall silent. It starts a fresh session for the request, at most once an hour.

The device that is asked sends what it still keeps, and only to a device it was first sent to,
of an account that has had the same key since: who takes over a number gets nothing of what was
sent before. Pure, over the device's file; methods belong to a transaction.
"""

from __future__ import annotations

from typing import Final

from raychat import limits
from raychat.client.history import Received
from raychat.client.recent import Recent
from raychat.client.rows import Rows
from raychat.client.store import DeviceStore, Own
from raychat.crypto import SessionCipher
from raychat.errors import BadRequest
from raychat.ids import AccountId, Address
from raychat.wire import content
from raychat.wire.content import DeviceMessage, Resend, Retry

_DAY_MS: Final = 86_400_000

GIVEN_UP: Final = 8
"""After so many requests in a row, of which nothing came that could be opened, the device is
asked no more until something does: the last pause was a matter of days."""


class Healing(Rows):
    """The tables `unopened` and `healing`, and the rules over them and `recent`."""

    __slots__ = ("_cipher", "_ill", "_own", "_store", "due", "recent")

    def __init__(self, store: DeviceStore, own: Own, cipher: SessionCipher) -> None:
        super().__init__(store.connection)
        self._store = store
        self._own = own
        self._cipher = cipher
        self.recent = Recent(store.connection)
        rows = self._rows("SELECT account, device, due FROM healing")
        self._ill = {Address(account, device) for account, device, _ in rows}
        self.due = min((due for _, _, due in rows if due), default=0)
        """When (ms) somebody is to be asked; 0 if nobody is."""

    # -- what this device could not open ---------------------------------------------------

    def failed(self, name: Received, at: int, now: int) -> None:
        """A message could not be opened; its sender is to be asked for it."""
        self._db.execute(
            "INSERT OR IGNORE INTO unopened VALUES (?, ?, ?, ?, ?, ?, 0)", (*name, at, now)
        )
        self._db.execute(
            "DELETE FROM unopened WHERE kept < ?", (now - limits.UNOPENED_DAYS * _DAY_MS,)
        )
        self._db.execute(
            "DELETE FROM unopened WHERE (account, device, incarnation, id) IN (SELECT account,"
            " device, incarnation, id FROM unopened ORDER BY kept DESC LIMIT -1 OFFSET ?)",
            (limits.UNOPENED,),
        )
        self._db.execute(
            "INSERT INTO healing (account, device, due) VALUES (?1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET due = max(next, ?3) WHERE tries < ?4",
            (name.account, name.device, now, GIVEN_UP),
        )
        self._ill.add(Address(name.account, name.device))
        self.look()

    def opened(self, address: Address) -> None:
        """Something of that device could be opened: the pauses begin with the shortest again."""
        if address in self._ill:
            self._ill.discard(address)
            self._db.execute(
                "UPDATE healing SET tries = 0 WHERE account = ? AND device = ?", address
            )

    def came(self, name: Received) -> int | None:
        """A message has come once more: the server's time of its first coming if it was waited
        for, None if it was not."""
        rows = self._rows(
            "DELETE FROM unopened WHERE account = ? AND device = ? AND incarnation = ? AND id = ?"
            " RETURNING at",
            *name,
        )
        return rows[0][0] if rows else None

    def ask(self, now: int) -> list[int]:
        """Owe the requests that are due. The conversations there is something to send in."""
        if not self.due or now < self.due:
            return []
        rows = self._rows(
            "SELECT account, device, fresh, tries FROM healing WHERE due BETWEEN 1 AND ?", now
        )
        asked = [self._ask(Address(row[0], row[1]), row[2], row[3], now) for row in rows]
        self.look()
        return [conversation for conversation in asked if conversation is not None]

    def _ask(self, address: Address, fresh: int, tries: int, now: int) -> int | None:
        names = [
            DeviceMessage(address.device, *row)
            for row in self._rows(
                "SELECT incarnation, id FROM unopened WHERE account = ? AND device = ?"
                " AND tries < ? ORDER BY kept, id LIMIT ?",
                *address,
                limits.RETRY_TRIES,
                limits.RETRY_NAMES,
            )
        ]
        if not names or self._store.lists.identity(address) is None:
            self._db.execute("UPDATE healing SET due = 0 WHERE account = ? AND device = ?", address)
            return None
        peer = self._store.history.open_conversation(address.account)
        if now - fresh >= limits.FRESH_SESSION_SECONDS * 1000:
            fresh = now
            self._cipher.end_session(address)
        self._store.outbox.owe(peer.id, content.encode(Retry(now, tuple(names))))
        self._db.executemany(
            "UPDATE unopened SET tries = tries + 1"
            " WHERE account = ? AND device = ? AND incarnation = ? AND id = ?",
            [(address.account, *name) for name in names],
        )
        pause = limits.RETRY_PAUSE_SECONDS * 4**tries
        if not peer.accepted and address.account != self._own.account:
            pause = max(pause, limits.STRANGER_RETRY_SECONDS)
        self._db.execute(
            "UPDATE healing SET fresh = ?, tries = tries + 1, due = 0, next = ?"
            " WHERE account = ? AND device = ?",
            (fresh, now + pause * 1000, *address),
        )
        return peer.id

    def look(self) -> None:
        """See whom to ask next; a new device list may have changed that."""
        row = self._row("SELECT min(due) FROM healing WHERE due > 0")
        self.due = row[0] or 0

    # -- what others could not open --------------------------------------------------------

    def asked(self, address: Address, incarnation: int, retry: Retry, now: int) -> int | None:
        """Owe what a peer device could not open. The conversation there is something to send in."""
        peer = self._store.history.conversation_with(address.account)
        key = self._store.lists.account_key(address.account)
        if peer is None or key is None:
            return None
        owed = False
        for device, of, id_ in retry.messages:
            if (device, of) != (self._own.device, self._own.incarnation):
                continue
            kept = self.recent.find((address.account, of, id_))
            if kept is None or kept.key != key.data:
                continue
            if (address.device, incarnation) not in kept.devices:
                continue
            again = self._again(address.account, DeviceMessage(device, of, id_), kept.content, now)
            if again is not None:
                self._store.outbox.owe(peer.id, again)
                owed = True
        return peer.id if owed else None

    def _again(
        self, account: AccountId, name: DeviceMessage, data: bytes, now: int
    ) -> bytes | None:
        """What to send for a message; None if that was done often enough."""
        try:
            held = content.decode(data)
        except BadRequest:
            held = None
        again = data
        if isinstance(held, Resend):
            name = held.message
        root = (account, name.incarnation, int(name.id))
        first = self.recent.find(root)
        if first is None or first.tries >= limits.RETRY_TRIES:
            return None
        self.recent.tried(root)
        if not isinstance(held, Resend):
            try:
                again = content.encode(Resend(now, name, data))
            except BadRequest:
                return data  # what syncs one's own devices does nothing when it comes twice
        return again
