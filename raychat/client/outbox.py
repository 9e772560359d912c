"""What the server has not acknowledged yet, in order, and the ids given out for it.

A row waits as plain content until it is its turn; then it gets the next id of its recipient
and is encrypted, and from there on the same bytes are sent each time. Methods that write are
called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from raychat.client.rows import Rows
from raychat.ids import AccountId, Address, MessageId
from raychat.wire.frames import MAX_COUNT, Part


class Owed(NamedTuple):
    """One row of the outbox. `id` is None until it has been encrypted."""

    position: int
    message: int | None
    content: bytes
    id: MessageId | None
    parts: Sequence[Part]


class Outbox(Rows):
    """The tables `outbox` and `counter`."""

    def owe(self, conversation: int, content: bytes, message: int | None = None) -> None:
        """Put a content at the end of what is to be sent to a conversation."""
        self._db.execute(
            "INSERT INTO outbox (conversation, message, content) VALUES (?, ?, ?)",
            (conversation, message, content),
        )

    def owing(self) -> list[int]:
        """The conversations something is to be sent to."""
        return [key for (key,) in self._rows("SELECT DISTINCT conversation FROM outbox")]

    def owed(self, conversation: int, after: int, most: int) -> list[Owed]:
        """The first rows that have no id yet, or one above `after`."""
        rows = self._rows(
            "SELECT position, message, content, id, parts FROM outbox WHERE conversation = ?"
            " AND (id IS NULL OR id > ?) ORDER BY position LIMIT ?",
            conversation,
            after,
            most,
        )
        return [_owed(row) for row in rows]

    def first_owed_id(self, conversation: int) -> int | None:
        """The lowest id that is not acknowledged."""
        row = self._row("SELECT min(id) FROM outbox WHERE conversation = ?", conversation)
        return row[0] if row else None

    def last_id(self, account: AccountId) -> int:
        """The last message id given out for a recipient."""
        row = self._row("SELECT last FROM counter WHERE account = ?", account)
        return row[0] if row else 0

    def set_last_id(self, account: AccountId, last: int) -> None:
        self._db.execute(
            "INSERT INTO counter VALUES (?, ?) ON CONFLICT DO UPDATE SET last = excluded.last",
            (account, last),
        )

    def give_id(
        self, own: Address, incarnation: int, row: Owed, message: int, parts: Sequence[Part]
    ) -> None:
        """The id and the encrypted parts of an owed content, the same for every transmission."""
        self._db.execute(
            "UPDATE outbox SET id = ?, parts = ? WHERE position = ?",
            (message, msgpack.packb(parts), row.position),
        )
        if row.message is not None:
            self._db.execute(
                "UPDATE message SET device = ?, incarnation = ?, id = ? WHERE key = ?",
                (own.device, incarnation, message, row.message),
            )

    def take_ids(self, conversation: int, first: int) -> None:
        """Nothing owed there with an id from `first` on has one, or is encrypted, any more."""
        self._db.execute(
            "UPDATE message SET id = NULL WHERE key IN"
            " (SELECT message FROM outbox WHERE conversation = ? AND id >= ?)",
            (conversation, first),
        )
        self._db.execute(
            "UPDATE outbox SET id = NULL, parts = NULL WHERE conversation = ? AND id >= ?",
            (conversation, first),
        )

    def with_ids(self, conversation: int, first: int, last: int = MAX_COUNT) -> list[Owed]:
        """What is owed there and has an id from `first` to `last`, in order."""
        rows = self._rows(
            "SELECT position, message, content, id, parts FROM outbox WHERE conversation = ?"
            " AND id BETWEEN ? AND ? ORDER BY position",
            conversation,
            first,
            last,
        )
        return [_owed(row) for row in rows]

    def settle(self, conversation: int, upto: int, but: int | None = None) -> None:
        """The server keeps everything up to this id, except perhaps one it has refused."""
        self._db.execute(
            "DELETE FROM outbox WHERE conversation = ? AND id <= ? AND id IS NOT ?",
            (conversation, upto, but),
        )

    def drop_waiting(self, conversation: int) -> None:
        """Nothing is owed there any more, but for what has an id already."""
        self._db.execute(
            "DELETE FROM outbox WHERE conversation = ? AND id IS NULL", (conversation,)
        )

    def drop_owed(self, position: int) -> None:
        self._db.execute("DELETE FROM outbox WHERE position = ?", (position,))


def _owed(row: Sequence[Any]) -> Owed:
    position, message, content, id_, parts = row
    return Owed(
        position, message, content, id_, [Part(*part) for part in msgpack.unpackb(parts or b"\x90")]
    )
