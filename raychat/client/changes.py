"""Changes of messages: edits, deletions, reactions and votes, in the device's file.

Of two that exclude each other the one with the greater (time, value) counts, and a deletion
outdoes all, so that the order they are applied in makes no difference. A change whose message
is not here waits for it. Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final, NamedTuple

from raychat import limits
from raychat.client import bodies
from raychat.client.bodies import Stored
from raychat.client.model import ViewOnce
from raychat.client.rows import Rows
from raychat.ids import AccountId
from raychat.wire import content
from raychat.wire.content import (
    Change,
    Delete,
    Edit,
    Kind,
    MessageName,
    Poll,
    Reaction,
    Text,
    Vote,
)

HOUR_MS: Final = 3_600_000
EDIT_MS: Final = limits.EDIT_MINUTES * 60_000
DELETE_MS: Final = limits.DELETE_HOURS * HOUR_MS
LATE_MS: Final = limits.CHANGE_LATE_HOURS * HOUR_MS
DAY_MS: Final = 24 * HOUR_MS


class Outcome(Enum):
    """What has become of a change."""

    CHANGED = auto()
    NOTHING = auto()
    """It is known already, or a later one is."""
    WAITING = auto()
    """Its message is not here; it is kept until that comes."""
    GONE = auto()
    """Its message was here and is not any more."""
    DENIED = auto()
    """It is not its author's to make."""
    LATE = auto()
    """The time for it is over."""
    SENSELESS = auto()
    """It does not fit its message."""


class Target(NamedTuple):
    """What of a message decides whether and how it may be changed."""

    key: int
    conversation: int
    author: AccountId
    composed: int
    at: int | None
    edited: int | None
    deleted: int | None
    stored: Stored


def in_time(target: Target, change: Edit | Delete, at: int | None) -> bool:
    """Whether a change is early enough: by its author's clock, and, as that is the author's
    claim, by the server's (`at` of the change) with as long as a device may be offline."""
    most = EDIT_MS if isinstance(change, Edit) else DELETE_MS
    if change.at - target.composed > most:
        return False
    return at is None or target.at is None or at - target.at <= most + LATE_MS


class Changes(Rows):
    """The tables `reaction`, `vote`, `pending` and `gone`, and what changes a `message`."""

    def target(self, conversation: int, name: MessageName) -> Target | None:
        """A message by its name."""
        row = self._row(
            "SELECT key, conversation, author, composed, at, edited, deleted,"  # noqa: S608
            f" {bodies.COLUMNS} FROM message WHERE conversation = ? AND author = ?"
            " AND device = ? AND incarnation = ? AND id = ?",
            conversation,
            *name,
        )
        return Target._make((*row[:7], Stored(*row[7:]))) if row else None

    def apply(self, target: Target, author: AccountId, change: Change, at: int | None) -> Outcome:
        """Make a change of `author`; `at` is the server's time of it, None if it is not sent."""
        stored = target.stored
        if stored.kind == Kind.TIMER:
            return Outcome.SENSELESS
        if isinstance(change, Edit | Delete):
            if author != target.author:
                return Outcome.DENIED
            if not in_time(target, change, at):
                return Outcome.LATE
        if isinstance(change, Edit) and (stored.kind != Kind.TEXT or stored.view_once):
            return Outcome.SENSELESS
        if isinstance(change, Vote) and stored.kind != Kind.POLL:
            return Outcome.SENSELESS
        if target.deleted is not None:
            return Outcome.NOTHING
        match change:
            case Edit():
                return self._edit(target, change)
            case Delete():
                return self._delete(target, change)
            case Reaction():
                return self._react(target, author, change)
            case Vote():
                return self._vote(target, author, change)

    def _edit(self, target: Target, edit: Edit) -> Outcome:
        words = Text(target.composed, edit.text, mentions=edit.mentions, preview=edit.preview)
        new = (edit.at, edit.text, bodies.details(words) or b"")
        stored = target.stored
        if target.edited is not None and new <= (target.edited, stored.text, stored.data or b""):
            return Outcome.NOTHING
        self._db.execute(
            "UPDATE message SET edited = ?, text = ?, data = ? WHERE key = ?",
            (*new[:2], new[2] or None, target.key),
        )
        return Outcome.CHANGED

    def _delete(self, target: Target, deletion: Delete) -> Outcome:
        """What stays is that there was a message."""
        self._db.execute(
            "UPDATE message SET deleted = ?, text = NULL, data = NULL, edited = NULL,"
            " forwarded = 0, view_once = 0, reply_account = NULL, reply_device = NULL,"
            " reply_incarnation = NULL, reply_id = NULL, reply_text = NULL WHERE key = ?",
            (deletion.at, target.key),
        )
        self._db.execute("DELETE FROM reaction WHERE message = ?", (target.key,))
        self._db.execute("DELETE FROM vote WHERE message = ?", (target.key,))
        self.unquote(target.conversation, deletion.target)
        return Outcome.CHANGED

    def _react(self, target: Target, author: AccountId, reaction: Reaction) -> Outcome:
        self._db.execute(
            "INSERT INTO reaction (message, account, emoji, at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET emoji = excluded.emoji, at = excluded.at"
            " WHERE (excluded.at, excluded.emoji) > (reaction.at, reaction.emoji)",
            (target.key, author, reaction.emoji, reaction.at),
        )
        return self._outcome()

    def _vote(self, target: Target, author: AccountId, vote: Vote) -> Outcome:
        poll = bodies.restore(target.composed, target.stored)
        if (
            not isinstance(poll, Poll)
            or any(choice >= len(poll.options) for choice in vote.choices)
            or (len(vote.choices) > 1 and not poll.multiple)
        ):
            return Outcome.SENSELESS
        self._db.execute(
            "INSERT INTO vote (message, account, choices, at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET choices = excluded.choices, at = excluded.at"
            " WHERE (excluded.at, excluded.choices) > (vote.at, vote.choices)",
            (target.key, author, bytes(vote.choices), vote.at),
        )
        return self._outcome()

    def _outcome(self) -> Outcome:
        return Outcome.CHANGED if self._db.changes() else Outcome.NOTHING

    def last(self, target: Target, author: AccountId, change: Change) -> int:
        """When (ms) the change was made that this one would follow; 0 if none was."""
        match change:
            case Edit():
                return target.edited or 0
            case Delete():
                return 0
            case Reaction():
                table = "reaction"
            case Vote():
                table = "vote"
        row = self._row(
            f"SELECT at FROM {table} WHERE message = ? AND account = ?",  # noqa: S608
            target.key,
            author,
        )
        return row[0] if row else 0

    def unquote(self, conversation: int, name: MessageName) -> None:
        """Replies to a message repeat its words no more."""
        self._db.execute(
            "UPDATE message SET reply_text = NULL WHERE conversation = ? AND reply_account = ?"
            " AND reply_device = ? AND reply_incarnation = ? AND reply_id = ?"
            " AND reply_id IS NOT NULL",
            (conversation, *name),
        )

    def open_once(self, key: int) -> Text | None:
        """What a view-once message says; it is wiped here. None if that has happened before."""
        row = self._row(
            f"SELECT composed, {bodies.COLUMNS} FROM message"  # noqa: S608 (own columns)
            " WHERE key = ? AND view_once = 1 AND outgoing = 0",
            key,
        )
        body = bodies.restore(row[0], Stored(*row[1:])) if row else None
        if not isinstance(body, Text):
            return None
        self._db.execute(
            "UPDATE message SET data = NULL, view_once = ? WHERE key = ?", (ViewOnce.OPENED, key)
        )
        return body

    # -- changes that wait -----------------------------------------------------------------

    def keep_waiting(
        self, conversation: int, author: AccountId, change: Change, at: int, now: int
    ) -> None:
        """Keep a change until its message comes. The oldest give way to it."""
        self._db.execute(
            "INSERT OR IGNORE INTO pending (conversation, account, device, incarnation, id,"
            " author, content, at, kept) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (conversation, *change.target, author, content.encode(change), at, now),
        )
        self._db.execute(
            "DELETE FROM pending WHERE conversation = ?1 AND position <= (SELECT position"
            " FROM pending WHERE conversation = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
            (conversation, limits.PENDING_CHANGES),
        )

    def take_waiting(
        self, conversation: int, name: MessageName
    ) -> list[tuple[AccountId, Change, int]]:
        """What waited for a message: author, change and the server's time of each."""
        rows = self._rows(
            "DELETE FROM pending WHERE conversation = ? AND account = ? AND device = ?"
            " AND incarnation = ? AND id = ? RETURNING author, content, at",
            conversation,
            *name,
        )
        found: list[tuple[AccountId, Any, int]] = [
            (author, content.decode(data), at) for author, data, at in rows
        ]
        return found

    # -- messages that go ------------------------------------------------------------------

    def remove(self, conversation: int, name: MessageName, now: int) -> int | None:
        """Remove a message for good, here or not: it does not come back. Its key, if here."""
        self.take_waiting(conversation, name)
        self._db.execute(
            "INSERT OR IGNORE INTO gone VALUES (?, ?, ?, ?, ?, ?)", (conversation, *name, now)
        )
        self.unquote(conversation, name)
        target = self.target(conversation, name)
        if target is None:
            return None
        self._db.execute("DELETE FROM message WHERE key = ?", (target.key,))
        return target.key
