"""Conversations and the messages of both sides, in the device's file.

Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from raychat.client.model import Conversation, Message, State
from raychat.client.rows import Rows
from raychat.ids import AccountId, DeviceId, MessageId, PhoneNumber

_CONVERSATION = "conversation.id, conversation.account, conversation.number, conversation.name"
_MESSAGE = (
    "message.key, outgoing, text, composed, at, state, delivered_at, read_at, " + _CONVERSATION
)


class Received(NamedTuple):
    """What a message of a peer device is called: unique among all that ever arrive here."""

    account: AccountId
    device: DeviceId
    incarnation: int
    id: MessageId


class History(Rows):
    """The tables `conversation` and `message`."""

    # -- conversations ---------------------------------------------------------------------

    def conversation(self, key: int) -> Conversation | None:
        return self._conversation("id = ?", key)

    def conversation_with(self, peer: PhoneNumber | AccountId) -> Conversation | None:
        if isinstance(peer, PhoneNumber):
            return self._conversation("number = ?", str(peer))
        return self._conversation("account = ?", peer)

    def conversations(self) -> list[Conversation]:
        """All of them, that with the latest message first."""
        rows = self._rows(
            f"SELECT {_CONVERSATION} FROM conversation ORDER BY (SELECT max(key) FROM message"  # noqa: S608
            " WHERE conversation = conversation.id) DESC NULLS LAST"
        )
        return [_conversation(row) for row in rows]

    def open_conversation(self, peer: PhoneNumber | AccountId) -> Conversation:
        """The conversation with a peer, begun if there is none."""
        found = self.conversation_with(peer)
        if found is not None:
            return found
        column = "number" if isinstance(peer, PhoneNumber) else "account"
        value = str(peer) if isinstance(peer, PhoneNumber) else peer
        self._db.execute(f"INSERT INTO conversation ({column}) VALUES (?)", (value,))  # noqa: S608
        begun = self.conversation(self._db.last_insert_rowid())
        assert begun is not None
        return begun

    def number_belongs(self, number: PhoneNumber, account: AccountId) -> Conversation:
        """The server says whose number this is: the conversation with both, merged if need be."""
        by_number = self.conversation_with(number)
        by_account = self.conversation_with(account)
        if by_number is not None and by_number.account not in (None, account):
            # The number has moved to another account; the old history stays with the old one.
            self._db.execute("UPDATE conversation SET number = NULL WHERE id = ?", (by_number.id,))
            by_number = None
        if by_account is None:
            kept = by_number or self.open_conversation(number)
            self._db.execute("UPDATE conversation SET account = ? WHERE id = ?", (account, kept.id))
        else:
            kept = by_account
            if by_number is not None and by_number.id != kept.id:
                both = (kept.id, by_number.id)
                self._db.execute("UPDATE message SET conversation = ? WHERE conversation = ?", both)
                # At the end of the outbox: what has an id there goes first.
                self._db.execute(
                    "INSERT INTO outbox (conversation, message, content) SELECT ?, message, content"
                    " FROM outbox WHERE conversation = ? ORDER BY position",
                    both,
                )
                self._db.execute("DELETE FROM outbox WHERE conversation = ?", both[1:])
                self._db.execute("DELETE FROM conversation WHERE id = ?", (by_number.id,))
            self._db.execute(
                "UPDATE conversation SET number = ?, name = coalesce(name, ?) WHERE id = ?",
                (str(number), by_number.name if by_number else None, kept.id),
            )
        found = self.conversation(kept.id)
        assert found is not None
        return found

    # -- messages ---------------------------------------------------------------------------

    def history(
        self, conversation: int | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[Message]:
        """The latest messages (of one conversation or all), oldest first; `before` is a key."""
        rows = self._rows(
            f"SELECT {_MESSAGE} FROM message JOIN conversation"  # noqa: S608
            " ON conversation.id = message.conversation"
            " WHERE (?1 IS NULL OR message.conversation = ?1) AND (?2 IS NULL OR key < ?2)"
            " ORDER BY key DESC LIMIT ?3",
            conversation,
            before,
            limit,
        )
        return [_message(row) for row in reversed(rows)]

    def message(self, key: int) -> Message | None:
        row = self._row(
            f"SELECT {_MESSAGE} FROM message JOIN conversation"  # noqa: S608
            " ON conversation.id = message.conversation WHERE key = ?",
            key,
        )
        return _message(row) if row else None

    def add_outgoing(self, conversation: int, kind: int, text: str | None, composed: int) -> int:
        """A new message of this device, in the history. Its key."""
        self._db.execute(
            "INSERT INTO message (conversation, outgoing, kind, text, composed, state)"
            " VALUES (?, 1, ?, ?, ?, ?)",
            (conversation, kind, text, composed, State.QUEUED),
        )
        key: int = self._db.last_insert_rowid()
        return key

    def add_incoming(
        self,
        conversation: int,
        name: Received,
        kind: int,
        text: str | None,
        data: bytes | None,
        composed: int,
        at: int,
        now: int,
    ) -> int:
        """A message of a peer, in the history. Its key."""
        self._db.execute(
            "INSERT INTO message (conversation, outgoing, device, incarnation, id, kind, text,"
            " data, composed, at, state, delivered_at) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                conversation,
                *name[1:],
                kind,
                text,
                data,
                composed,
                at,
                State.DELIVERED,
                now,
            ),
        )
        key: int = self._db.last_insert_rowid()
        return key

    def mark_outgoing(
        self,
        conversation: int,
        device: int,
        incarnation: int,
        lo: int,
        hi: int,
        state: State,
        at: int,
    ) -> list[int]:
        """Raise the state of own messages with ids lo..hi; the keys of those it was new for."""
        column = {State.SENT: "at", State.DELIVERED: "delivered_at", State.READ: "read_at"}
        also = f", {column[state]} = coalesce({column[state]}, ?2)" if state in column else ""
        rows = self._rows(
            f"UPDATE message SET state = ?1{also}"  # noqa: S608 (own names)
            " WHERE conversation = ?3 AND outgoing = 1 AND device = ?4 AND incarnation = ?5"
            " AND id BETWEEN ?6 AND ?7 AND id IS NOT NULL AND state < ?1 RETURNING key",
            int(state),
            at,
            conversation,
            device,
            incarnation,
            lo,
            hi,
        )
        return sorted(key for (key,) in rows)

    def set_failed(self, key: int) -> None:
        """A message of this device is given up; its id is free again."""
        self._db.execute(
            "UPDATE message SET state = max(state, ?), id = NULL WHERE key = ?",
            (State.FAILED, key),
        )

    def mark_incoming_read(self, conversation: int, upto: int | None, at: int) -> list[Received]:
        """Mark received messages up to a key as read; the names of those it was new for."""
        peer = self.conversation(conversation)
        if peer is None or peer.account is None:
            return []
        rows = self._rows(
            "UPDATE message SET state = 5, read_at = ? WHERE conversation = ? AND outgoing = 0"
            " AND state < 5 AND (?3 IS NULL OR key <= ?3) RETURNING device, incarnation, id",
            at,
            conversation,
            upto,
        )
        return sorted(Received(peer.account, *row) for row in rows)

    def unread_messages(self, conversation: int, limit: int) -> list[Message]:
        """The received messages that have not been read, oldest first."""
        rows = self._rows(
            f"SELECT {_MESSAGE} FROM message JOIN conversation"  # noqa: S608
            " ON conversation.id = message.conversation WHERE message.conversation = ?"
            " AND outgoing = 0 AND state < 5 ORDER BY key LIMIT ?",
            conversation,
            limit,
        )
        return [_message(row) for row in rows]

    def unread(self, conversation: int) -> int:
        """How many received messages have not been read."""
        row = self._row(
            "SELECT count(*) FROM message WHERE conversation = ? AND outgoing = 0 AND state < 5",
            conversation,
        )
        return row[0] if row else 0

    # -- rows ------------------------------------------------------------------------------

    def _conversation(self, condition: str, value: object) -> Conversation | None:
        row = self._row(
            f"SELECT {_CONVERSATION} FROM conversation WHERE {condition}",  # noqa: S608
            value,
        )
        return _conversation(row) if row else None


def _conversation(row: Iterable[Any]) -> Conversation:
    key, account, number, name = row
    return Conversation(key, account, PhoneNumber(number) if number else None, name)


def _message(row: Sequence[Any]) -> Message:
    key, outgoing, text, composed, at, state, delivered_at, read_at = row[:8]
    return Message(
        key,
        _conversation(row[8:]),
        bool(outgoing),
        text,
        composed,
        at,
        State(state),
        delivered_at,
        read_at,
    )
