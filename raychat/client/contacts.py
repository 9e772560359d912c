"""Conversations, and what a person has settled about each: the tables `conversation`, `setting`.

Settings are synced over the devices of an account, so of each the later one counts, whichever
arrives first. Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from raychat.client.model import Conversation
from raychat.client.rows import Rows
from raychat.ids import AccountId, PhoneNumber

CONVERSATION: Final = (
    "conversation.id, conversation.account, conversation.number, conversation.name,"
    " conversation.accepted, conversation.blocked, conversation.muted, conversation.archived,"
    " conversation.pinned, conversation.timer, conversation.verified, conversation.profile"
)

OWN: Final = 0
"""Stands for a conversation where a setting is of no conversation."""

CONVERSATION_SETTINGS: Final[dict[str, type]] = {
    "accepted": bool,
    "blocked": bool,
    "archived": bool,
    "muted": int,
    "pinned": int,
    "timer": int,
    "name": str,
    "profile": str,
    "verified": bytes,
}
OWN_SETTINGS: Final[dict[str, type]] = {"read_receipts": bool, "typing": bool, "profile": str}
SYNCED: Final = frozenset(CONVERSATION_SETTINGS) - {"timer", "profile"}
"""What a device of one's own may set by `Settings`; the others come from the conversation."""

_NULL_IF_EMPTY: Final = frozenset({"name", "profile", "verified"})


class Made(NamedTuple):
    """A setting with when (ms) and by whom it was made."""

    at: int
    author: AccountId
    value: Any


class Conversations(Rows):
    """Whom this device writes with, and how."""

    def conversation(self, key: int) -> Conversation | None:
        return self._conversation("id = ?", key)

    def conversation_with(self, peer: PhoneNumber | AccountId) -> Conversation | None:
        if isinstance(peer, PhoneNumber):
            return self._conversation("number = ?", str(peer))
        return self._conversation("account = ?", peer)

    def conversations(self) -> list[Conversation]:
        """Those with others, and notes to oneself if there are any: pinned ones in their order,
        then that with the latest message first."""
        rows = self._rows(
            f"SELECT {CONVERSATION} FROM conversation"  # noqa: S608
            " WHERE account IS NOT (SELECT account FROM own)"
            " OR EXISTS (SELECT 1 FROM message WHERE conversation = conversation.id)"
            " ORDER BY pinned = 0, pinned,"
            " (SELECT max(key) FROM message WHERE conversation = conversation.id) DESC NULLS LAST"
        )
        return [conversation_of(row) for row in rows]

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
                self._merge(by_number.id, kept.id)
            self._db.execute(
                "UPDATE conversation SET number = ? WHERE id = ?", (str(number), kept.id)
            )
        found = self.conversation(kept.id)
        assert found is not None
        return found

    def _merge(self, old: int, kept: int) -> None:
        """A conversation that has had no account becomes part of another."""
        both = (kept, old)
        self._db.execute("UPDATE message SET conversation = ? WHERE conversation = ?", both)
        # At the end of the outbox: what has an id there goes first.
        self._db.execute(
            "INSERT INTO outbox (conversation, message, content) SELECT ?, message, content"
            " FROM outbox WHERE conversation = ? ORDER BY position",
            both,
        )
        self._db.execute("DELETE FROM outbox WHERE conversation = ?", (old,))
        rows = self._rows(
            "DELETE FROM setting WHERE conversation = ? RETURNING name, at, author, value", old
        )
        self._db.execute(
            "UPDATE conversation SET name = coalesce(name,"
            " (SELECT name FROM conversation WHERE id = ?2)) WHERE id = ?1",
            both,
        )
        self._db.execute("DELETE FROM conversation WHERE id = ?", (old,))
        for name, *made in rows:
            self.put_setting(kept, name, Made(*made))

    # -- settings --------------------------------------------------------------------------

    def setting(self, conversation: int, name: str) -> Made | None:
        """A setting of a conversation (or `OWN`), None if it was never made."""
        row = self._row(
            "SELECT at, author, value FROM setting WHERE conversation = ? AND name = ?",
            conversation,
            name,
        )
        return Made(*row) if row else None

    def put_setting(self, conversation: int, name: str, made: Made) -> bool:
        """Take a setting over, unless it is not known or a later one is there.

        Whether that has changed what is set.
        """
        known = OWN_SETTINGS if conversation == OWN else CONVERSATION_SETTINGS
        expected = known.get(name)
        # A switch is an integer once it is stored.
        is_switch = expected is bool and made.value in (0, 1)
        if expected is None or not (is_switch or type(made.value) is expected):
            return False
        value = int(made.value) if expected is bool else made.value
        before = self.setting(conversation, name)
        self._db.execute(
            "INSERT INTO setting VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " at = excluded.at, author = excluded.author, value = excluded.value WHERE"
            " (excluded.at, excluded.author, excluded.value)"
            " > (setting.at, setting.author, setting.value)",
            (conversation, name, made.at, made.author, value),
        )
        if not self._db.changes():
            return False
        if conversation != OWN:
            stored = None if name in _NULL_IF_EMPTY and not value else value
            self._db.execute(
                f"UPDATE conversation SET {name} = ? WHERE id = ?",  # noqa: S608 (a known name)
                (stored, conversation),
            )
        return before is None or before.value != value

    def settings(self) -> list[tuple[int, str, Made]]:
        """All settings, for a new device of one's own: conversation (or `OWN`), name, setting."""
        rows = self._rows("SELECT conversation, name, at, author, value FROM setting")
        return [(conversation, name, Made(*made)) for conversation, name, *made in rows]

    def blocked(self) -> list[AccountId]:
        """The accounts whose messages are not wanted."""
        rows = self._rows(
            "SELECT account FROM conversation WHERE blocked AND account IS NOT NULL"
            " ORDER BY account"
        )
        return [account for (account,) in rows]

    def contacts(self) -> list[Conversation]:
        """Those who have a name here or were accepted, in the order of their titles."""
        rows = self._rows(
            f"SELECT {CONVERSATION} FROM conversation"  # noqa: S608 (own columns)
            " WHERE name IS NOT NULL OR accepted"
        )
        return sorted((conversation_of(row) for row in rows), key=lambda c: c.title.casefold())

    def requests(self) -> list[Conversation]:
        """Strangers who have written and wait for an answer, the latest first."""
        return [found for found in self.conversations() if found.is_request]

    # -- rows ------------------------------------------------------------------------------

    def _conversation(self, condition: str, value: object) -> Conversation | None:
        row = self._row(
            f"SELECT {CONVERSATION} FROM conversation WHERE {condition}",  # noqa: S608
            value,
        )
        return conversation_of(row) if row else None


def conversation_of(row: Iterable[Any]) -> Conversation:
    """A row of the columns `CONVERSATION`."""
    key, account, number, name, accepted, blocked, muted, archived, *rest = row
    return Conversation(
        key,
        account,
        PhoneNumber(number) if number else None,
        name,
        bool(accepted),
        bool(blocked),
        muted,
        bool(archived),
        *rest,
    )
