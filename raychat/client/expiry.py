"""Messages that disappear: when, and all that goes with them.

Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raychat import limits
from raychat.client.changes import DAY_MS, Changes
from raychat.client.rows import Rows
from raychat.wire.content import MessageName

SWEPT: Final = 500
"""Messages that go in one transaction."""

_DUE: Final = (
    "expires_at IS NOT NULL AND key NOT IN (SELECT message FROM outbox WHERE message IS NOT NULL)"
)


class Disappeared(NamedTuple):
    """A message that has gone: its key was `key`. It had no name if it was never sent."""

    key: int
    conversation: int
    name: MessageName | None


class Expiry(Rows):
    """The messages with a time to disappear at."""

    def deadline(self) -> int | None:
        """When (ms) the next message is to go."""
        row = self._row(
            f"SELECT expires_at FROM message WHERE {_DUE} ORDER BY expires_at LIMIT 1"  # noqa: S608
        )
        found: int | None = row[0] if row else None
        return found

    def sweep(self, now: int) -> list[Disappeared]:
        """Remove messages whose time is over, the first `SWEPT` of them, with all about them."""
        rows = self._rows(
            "SELECT key, conversation, author, device, incarnation, id FROM message"  # noqa: S608
            f" WHERE {_DUE} AND expires_at <= ? ORDER BY expires_at LIMIT ?",
            now,
            SWEPT,
        )
        changes = Changes(self._db)
        went = []
        for key, conversation, *named in rows:
            name = None if named[3] is None else MessageName._make(named)
            if name is not None:
                changes.remove(conversation, name, now)
            else:
                self._db.execute("DELETE FROM message WHERE key = ?", (key,))
            went.append(Disappeared(key, conversation, name))
        return went

    def forget(self, now: int) -> None:
        """Let go of what was kept for messages that will not come any more."""
        oldest = now - limits.PENDING_DAYS * DAY_MS
        self._db.execute("DELETE FROM pending WHERE kept < ?", (oldest,))
        self._db.execute("DELETE FROM gone WHERE kept < ?", (oldest,))
