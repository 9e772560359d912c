"""The messages of both sides, in the device's file, and the marks on them.

Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from raychat import limits
from raychat.client import bodies
from raychat.client.bodies import Stored
from raychat.client.contacts import CONVERSATION, Conversations, conversation_of
from raychat.client.model import Body, Message, Reacted, State, ViewOnce, Voted
from raychat.wire import content
from raychat.wire.content import Kind, MessageName, Text

Received = MessageName
"""What a message of a peer device is called."""

_COLUMNS: Final = (
    "message.key, message.outgoing, message.composed, message.at, message.state,"
    " message.delivered_at, message.read_at, message.author, message.device,"
    " message.incarnation, message.id, message.edited, message.deleted, message.expires_at, "
    + ", ".join(f"message.{column}" for column in Stored._fields)
)
_FACTS: Final = 14
_OWN: Final = "(SELECT account FROM own)"
_NAMED: Final = "conversation = ? AND author = ? AND device = ? AND incarnation = ? AND id = ?"
_SELECT: Final = (
    f"SELECT {_COLUMNS}, (SELECT quoted.key FROM message AS quoted"  # noqa: S608 (own columns)
    " WHERE quoted.conversation = message.conversation AND quoted.author = message.reply_account"
    " AND quoted.device = message.reply_device AND quoted.id = message.reply_id"
    " AND quoted.incarnation = message.reply_incarnation AND quoted.id IS NOT NULL),"
    f" {CONVERSATION} FROM message JOIN conversation ON conversation.id = message.conversation"
)


class History(Conversations):
    """The tables `message`, `reaction` and `vote` to read from, and what adds to them."""

    # -- reading ---------------------------------------------------------------------------

    def history(
        self,
        conversation: int | None = None,
        *,
        limit: int = 50,
        before: int | None = None,
        now: int = 0,
    ) -> list[Message]:
        """The latest messages (of one conversation or all), oldest first; `before` is a key.

        What is to disappear by `now` (ms) has, even if nobody has removed it yet.
        """
        found = self._messages(
            "(?1 IS NULL OR message.conversation = ?1) AND (?2 IS NULL OR message.key < ?2)"
            " AND (message.expires_at IS NULL OR message.expires_at > ?4)"
            " ORDER BY message.key DESC LIMIT ?3",
            conversation,
            before,
            limit,
            now,
        )
        return found[::-1]

    def messages_after(self, conversation: int | None, key: int, limit: int) -> list[Message]:
        """Messages (of one conversation or all) from after a key on, oldest first."""
        return self._messages(
            "(?1 IS NULL OR message.conversation = ?1) AND message.key > ?2"
            " ORDER BY message.key LIMIT ?3",
            conversation,
            key,
            limit,
        )

    def message(self, key: int) -> Message | None:
        found = self._messages("message.key = ?", key)
        return found[0] if found else None

    def messages(self, keys: Collection[int]) -> list[Message]:
        """Messages by their keys, in the order of these; those that are gone are left out."""
        found = {key: self.message(key) for key in keys}
        return [message for key in keys if (message := found[key]) is not None]

    def find(self, conversation: int, name: MessageName) -> int | None:
        """The key of a message by its name."""
        row = self._row(f"SELECT key FROM message WHERE {_NAMED}", conversation, *name)  # noqa: S608
        return row[0] if row else None

    def name_of(self, key: int) -> MessageName | None:
        """What all devices call a message; None until the server has it, and if it is gone."""
        message = self.message(key)
        return message.name if message else None

    def unread_messages(self, conversation: int, limit: int) -> list[Message]:
        """The received messages that have not been read, oldest first."""
        return self._messages(
            "message.conversation = ? AND message.outgoing = 0 AND message.state < 5"
            " ORDER BY message.key LIMIT ?",
            conversation,
            limit,
        )

    def unread(self, conversation: int) -> int:
        """How many received messages have not been read."""
        row = self._row(
            "SELECT count(*) FROM message WHERE conversation = ? AND outgoing = 0 AND state < 5",
            conversation,
        )
        return row[0] if row else 0

    # -- adding ----------------------------------------------------------------------------

    def add_outgoing(self, conversation: int, kind: int, text: str | None, composed: int) -> int:
        """A new text of this device, in the history. Its key."""
        assert kind == Kind.TEXT and text is not None
        return self.compose(conversation, Text(composed, text), composed)

    def compose(self, conversation: int, body: Body, composed: int) -> int:
        """A new message of this device, which has no name yet. Its key."""
        return self._insert(
            conversation, bodies.store(body), outgoing=1, composed=composed, state=State.QUEUED
        )

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
        """A text or unknown content of a peer, in the history. Its key."""
        if text is not None:
            body: Body = Text(composed, text)
        else:
            assert data is not None
            body = content.Unknown(composed, content.VERSION, kind, data)
        key = self.add(conversation, name, body, outgoing=False, at=at, now=now)
        assert key is not None
        return key

    def add(
        self,
        conversation: int,
        name: MessageName,
        body: Body,
        *,
        outgoing: bool,
        at: int,
        now: int,
        place: int | None = None,
    ) -> int | None:
        """A message that has come under its name; `outgoing` from another device of one's own.

        Its key, None if it is there already or was and is gone. Marks that came before it are
        on it. What a reply repeats of a message that is gone is left out. `place` is a free key
        for it, if it does not belong at the end.
        """
        if self.find(conversation, name) is not None or self.is_gone(conversation, name):
            return None
        stored = bodies.store(body)
        if stored.reply_id is not None and self._quotes_nothing(conversation, stored):
            stored = stored._replace(reply_text=None)
        if outgoing and stored.view_once:  # only the receiver may look at it
            stored = stored._replace(data=None, view_once=ViewOnce.OPENED)
        notice = isinstance(body, content.Timer)
        key = self._insert(
            conversation,
            stored,
            outgoing=int(outgoing),
            composed=body.at,
            state=State.READ if notice else State.SENT if outgoing else State.DELIVERED,
            at=at,
            author=name.account,
            device=name.device,
            incarnation=name.incarnation,
            id=name.id,
            delivered_at=None if outgoing or notice else now,
            expires_at=at + stored.timer * 1000 if outgoing and stored.timer else None,
            **({} if place is None else {"key": place}),
        )
        self._take_early_marks(conversation, name, outgoing)
        return key

    def _insert(self, conversation: int, stored: Stored, **facts: object) -> int:
        columns = ("conversation", *stored._fields, *facts)
        values = [conversation, *stored, *facts.values()]
        places = ["?"] * len(values)
        if "author" not in facts:
            columns, places = (*columns, "author"), [*places, _OWN]
        self._db.execute(
            f"INSERT INTO message ({', '.join(columns)}) VALUES ({', '.join(places)})",  # noqa: S608
            values,
        )
        key: int = self._db.last_insert_rowid()
        return key

    def _quotes_nothing(self, conversation: int, stored: Stored) -> bool:
        name = MessageName._make(stored[6:10])
        row = self._row(
            f"SELECT deleted IS NOT NULL FROM message WHERE {_NAMED}",  # noqa: S608
            conversation,
            *name,
        )
        return bool(row[0]) if row else self.is_gone(conversation, name)

    def is_gone(self, conversation: int, name: MessageName) -> bool:
        """Whether a message was here and has disappeared or was erased."""
        row = self._row(
            "SELECT 1 FROM gone WHERE conversation = ? AND account = ? AND device = ?"
            " AND incarnation = ? AND id = ?",
            conversation,
            *name,
        )
        return row is not None

    def add_alias(self, conversation: int, name: MessageName, of: MessageName) -> None:
        """An own message was sent again under another name: what is heard of that is of it."""
        key = self.find(conversation, of)
        if key is not None:
            self._db.execute(
                "INSERT OR IGNORE INTO alias VALUES (?, ?, ?, ?, ?)",
                (conversation, *name[1:], key),
            )
            self._take_early_marks(conversation, name, True)

    # -- marks -----------------------------------------------------------------------------

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
        """Raise the state of own messages with ids lo..hi; the keys of those it was new for.

        A mark on messages of another own device that have not come yet waits for them.
        """
        keys = self._mark_outgoing(conversation, device, incarnation, lo, hi, state, at)
        own = self._row("SELECT device, incarnation FROM own")
        if own != (device, incarnation):
            self._keep_early(conversation, 1, device, incarnation, lo, hi, state, at)
        return keys

    def _mark_outgoing(
        self,
        conversation: int,
        device: int,
        incarnation: int,
        lo: int,
        hi: int,
        state: State,
        at: int,
    ) -> list[int]:
        column = {State.SENT: "at", State.DELIVERED: "delivered_at", State.READ: "read_at"}
        also = f", {column[state]} = coalesce({column[state]}, ?2)" if state in column else ""
        if state >= State.SENT:
            also += ", expires_at = coalesce(expires_at, ?2 + timer * 1000)"
        if state >= State.DELIVERED:  # nobody asks for it again
            also += (
                ", data = CASE view_once WHEN 0 THEN data END"
                ", view_once = CASE view_once WHEN 0 THEN 0 ELSE 2 END"
            )
        rows = self._rows(
            f"UPDATE message SET state = ?1{also} WHERE state < ?1 AND outgoing = 1"  # noqa: S608
            f" AND key IN (SELECT key FROM message WHERE conversation = ?3 AND author = {_OWN}"
            " AND device = ?4 AND incarnation = ?5 AND id BETWEEN ?6 AND ?7 AND id IS NOT NULL"
            " UNION SELECT message FROM alias WHERE conversation = ?3 AND device = ?4"
            " AND incarnation = ?5 AND id BETWEEN ?6 AND ?7) RETURNING key",
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

    def mark_incoming_read(self, conversation: int, upto: int | None, at: int) -> list[MessageName]:
        """Mark received messages up to a key as read; the names of those it was new for.

        The time of those that disappear begins.
        """
        peer = self.conversation(conversation)
        if peer is None or peer.account is None:
            return []
        rows = self._rows(
            "UPDATE message SET state = 5, read_at = ?1, expires_at = ?1 + timer * 1000"
            " WHERE conversation = ?2 AND outgoing = 0 AND state < 5"
            " AND (?3 IS NULL OR key <= ?3) RETURNING author, device, incarnation, id",
            at,
            conversation,
            upto,
        )
        return sorted(MessageName(*row) for row in rows)

    def mark_read_elsewhere(
        self, conversation: int, device: int, incarnation: int, lo: int, hi: int, at: int
    ) -> list[int]:
        """Another own device has read the peer's messages lo..hi; the keys it was new for."""
        keys = self._mark_read_elsewhere(conversation, device, incarnation, lo, hi, at)
        self._keep_early(conversation, 0, device, incarnation, lo, hi, State.READ, at)
        return keys

    def _mark_read_elsewhere(
        self, conversation: int, device: int, incarnation: int, lo: int, hi: int, at: int
    ) -> list[int]:
        where = (
            f"conversation = ?2 AND outgoing = 0 AND kind != {int(Kind.TIMER)} AND device = ?3"
            " AND incarnation = ?4 AND id BETWEEN ?5 AND ?6 AND id IS NOT NULL"
        )
        values = (at, conversation, device, incarnation, lo, hi)
        new = self._rows(f"SELECT key FROM message WHERE {where} AND state < 5", *values)  # noqa: S608
        # The first device that reads it starts its time.
        self._db.execute(
            "UPDATE message SET state = 5, read_at = min(coalesce(read_at, ?1), ?1), expires_at ="  # noqa: S608
            f" min(coalesce(read_at, ?1), ?1) + timer * 1000 WHERE {where}",
            values,
        )
        return sorted(key for (key,) in new)

    def _keep_early(self, conversation: int, *mark: int) -> None:
        self._db.execute(
            "INSERT INTO early_mark"
            " (conversation, outgoing, device, incarnation, lo, hi, state, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET at = min(at, excluded.at)",
            (conversation, *map(int, mark)),
        )
        self._db.execute(
            "DELETE FROM early_mark WHERE conversation = ?1 AND position <= (SELECT position"
            " FROM early_mark WHERE conversation = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
            (conversation, limits.EARLY_MARKS),
        )

    def _take_early_marks(self, conversation: int, name: MessageName, outgoing: bool) -> None:
        rows = self._rows(
            "SELECT state, at FROM early_mark WHERE conversation = ? AND outgoing = ?"
            " AND device = ? AND incarnation = ? AND ? BETWEEN lo AND hi ORDER BY position",
            conversation,
            int(outgoing),
            name.device,
            name.incarnation,
            name.id,
        )
        place = (conversation, name.device, name.incarnation, name.id, name.id)
        for state, at in rows:
            if outgoing:
                self._mark_outgoing(*place, State(state), at)
            else:
                self._mark_read_elsewhere(*place, at)

    # -- rows ------------------------------------------------------------------------------

    def _messages(self, condition: str, *values: object) -> list[Message]:
        rows = self._rows(f"{_SELECT} WHERE {condition}", *values)
        if not rows:
            return []
        keys = [row[0] for row in rows]
        span = (min(keys), max(keys))
        reactions: dict[int, list[Reacted]] = {}
        for key, *reacted in self._rows(
            "SELECT message, account, emoji, at FROM reaction"
            " WHERE message BETWEEN ? AND ? AND emoji != '' ORDER BY at, account",
            *span,
        ):
            reactions.setdefault(key, []).append(Reacted(*reacted))
        votes: dict[int, list[Voted]] = {}
        for key, account, choices in self._rows(
            "SELECT message, account, choices FROM vote"
            " WHERE message BETWEEN ? AND ? AND choices != x'' ORDER BY at, account",
            *span,
        ):
            votes.setdefault(key, []).append(Voted(account, tuple(choices)))
        return [
            _message(row, tuple(reactions.get(row[0], ())), tuple(votes.get(row[0], ())))
            for row in rows
        ]


def _message(
    row: Sequence[Any], reactions: tuple[Reacted, ...], votes: tuple[Voted, ...]
) -> Message:
    key, outgoing, composed, at, state, delivered_at, read_at = row[:7]
    author, device, incarnation, id_, edited, deleted, expires_at = row[7:_FACTS]
    end = _FACTS + len(Stored._fields)
    stored = Stored(*row[_FACTS:end])
    named = id_ is not None and (not outgoing or state >= State.SENT)
    return Message(
        key,
        conversation_of(row[end + 1 :]),
        bool(outgoing),
        stored.text,
        composed,
        at,
        State(state),
        delivered_at,
        read_at,
        stored.kind,
        author,
        MessageName(author, device, incarnation, id_) if named else None,
        None if stored.view_once else bodies.restore(composed, stored),
        edited,
        deleted,
        stored.timer,
        expires_at,
        ViewOnce(stored.view_once),
        row[end],
        reactions,
        votes,
    )
