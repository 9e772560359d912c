"""The history as parts: what an old device writes for a new one, and how that merges it in.

    part         = zlib(msgpack [kind, items])
    kind 0       conversations: [account | nil, number | nil, signed device list | nil,
                                 [[setting, at, author, value], …]]
    kind 1       messages, newest first: [account, outgoing, name, content | nil, times, state,
                                 view_once, reactions, votes]
    name         = [author, device, incarnation, id], which all devices call the message
    times        = [composed, at, delivered, read, edited, deleted, expires], ms or nil
    reactions    = [[account, emoji, at], …],  votes = [[account, choices, at], …]

What is there already is found by its name and only gets the later marks. Messages are given keys
below those that are there, so that they stand before what has arrived meanwhile. Methods that
write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from raychat import limits
from raychat.client.contacts import Made
from raychat.client.model import Message, State, ViewOnce
from raychat.client.rows import Rows
from raychat.client.store import DeviceStore
from raychat.errors import CryptoError, Malformed, RaychatError
from raychat.ids import AccountId, PhoneNumber
from raychat.wire import content
from raychat.wire.content import MessageName, Text

CONVERSATIONS: Final = 0
MESSAGES: Final = 1
FIRST_KEY: Final = 2**40
"""From here on a new device counts its own messages; those of before lie below."""

_AT_ONCE: Final = 16
"""Conversations in one part: each may come with a list of a kilobyte."""

_RECORD_BYTES: Final = 400
"""What a message takes besides its words, generously."""

_MOST: Final = 31 * 1024
_UNPACKED_MOST: Final = 1024 * 1024


class Past(Rows):
    """Reads the history of one file, and merges another one into it."""

    __slots__ = ("_store",)

    def __init__(self, store: DeviceStore) -> None:
        super().__init__(store.connection)
        self._store = store

    # -- the old device --------------------------------------------------------------------

    def divide(self, whole: bool) -> list[tuple[int, int, int]]:
        """The parts: kind, and the first and last id or key of what each holds. Without `whole`
        only the conversations."""
        ids = [key for (key,) in self._rows("SELECT id FROM conversation ORDER BY id")]
        parts = [
            (CONVERSATIONS, ids[at], ids[min(at + _AT_ONCE, len(ids)) - 1])
            for at in range(0, len(ids), _AT_ONCE)
        ]
        if not whole:
            return parts
        newest, oldest, size = 0, 0, 0
        for key, bytes_ in self._rows(
            "SELECT key, coalesce(length(CAST(text AS BLOB)), 0) + coalesce(length(data), 0)"
            " + coalesce(length(CAST(reply_text AS BLOB)), 0)"
            " FROM message WHERE id IS NOT NULL ORDER BY key DESC"
        ):
            if newest and size + bytes_ + _RECORD_BYTES > limits.TRANSFER_PART_BYTES:
                parts.append((MESSAGES, newest, oldest))
                newest, size = 0, 0
            newest, oldest = newest or key, key
            size += bytes_ + _RECORD_BYTES
        return [*parts, (MESSAGES, newest, oldest)] if newest else parts

    def write(self, kind: int, first: int, last: int) -> bytes:
        """A part, as what it holds is now."""
        if kind == CONVERSATIONS:
            return _packed(kind, self._conversations(first, last))
        messages = self._store.history.messages_after(None, last - 1, first - last + 1)
        records = [
            _record(m) for m in reversed(messages) if m.key <= first and m.name and _account(m)
        ]
        data = _packed(kind, records)
        if len(data) > _MOST:  # reactions of very many
            data = _packed(kind, [[*record[:-2], [], []] for record in records])
        return data

    def _conversations(self, first: int, last: int) -> list[Any]:
        settings: dict[int, list[Any]] = {}
        for conversation, name, made in self._store.history.settings():
            settings.setdefault(conversation, []).append([name, *made])
        found = []
        for (key,) in self._rows(
            "SELECT id FROM conversation WHERE id BETWEEN ? AND ?", first, last
        ):
            peer = self._store.history.conversation(key)
            assert peer is not None
            listed = self._store.lists.signed(peer.account) if peer.account else None
            number = str(peer.number) if peer.number else None
            found.append([peer.account, number, listed, settings.get(key, [])])
        return found

    # -- the new device --------------------------------------------------------------------

    def begin(self) -> None:
        """Count this device's own messages from `FIRST_KEY` on."""
        self._db.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'message', ?"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'message')",
            (FIRST_KEY,),
        )

    def merge(self, data: bytes, now: int) -> None:
        """Take a part in. Raises Malformed."""
        kind, items = _unpacked(data)
        for item in items:
            try:
                if kind == CONVERSATIONS:
                    account, number, listed, settings = item[:4]
                    self._merge_conversation(account, number, listed, settings, now)
                elif kind == MESSAGES:
                    self._merge_message(item, now)
            except RaychatError:
                raise
            except Exception as error:  # taking apart what another version wrote
                raise Malformed("A part of the history is not as agreed.") from error

    def _merge_conversation(
        self,
        account: bytes | None,
        number: str | None,
        listed: bytes | None,
        settings: Sequence[Sequence[Any]],
        now: int,
    ) -> None:
        history = self._store.history
        if account is not None and len(account) != 16:
            raise Malformed("A part of the history is not as agreed.")
        owner = AccountId(account) if account else None
        if number is not None and owner is not None:
            peer = history.number_belongs(PhoneNumber(number), owner)
        elif owner is not None:
            peer = history.open_conversation(owner)
        elif number is not None:
            peer = history.open_conversation(PhoneNumber(number))
        else:
            return
        if listed is not None and owner is not None and self._store.lists.version(owner) == 0:
            try:
                self._store.lists.take(owner, listed, now)
            except CryptoError:
                return
        for name, at, author, value in settings:
            if type(name) is str and type(at) is int and type(author) is bytes:
                history.put_setting(peer.id, name, Made(at, AccountId(author), value))

    def _merge_message(self, record: Sequence[Any], now: int) -> None:
        account, outgoing, named, said, times, state, view_once, reactions, votes = record[:9]
        history = self._store.history
        peer = history.open_conversation(AccountId(bytes(account)))
        name = MessageName(*named)
        composed, at, delivered, read, edited, deleted, expires = times[:7]
        if expires is not None and expires <= now:
            return
        body = content.decode(said) if said is not None else Text(composed, "…")
        if not isinstance(body, content.Message | content.Timer | content.Unknown):
            raise Malformed("A part of the history is not as agreed.")
        (lowest,) = self._row("SELECT min(key) FROM message")
        key = min(lowest or FIRST_KEY + 1, FIRST_KEY + 1) - 1
        added = history.add(
            peer.id, name, body, outgoing=bool(outgoing), at=at or 0, now=now, place=key
        )
        known = added if added is not None else history.find(peer.id, name)
        if known is None:
            return
        self._db.execute(
            "UPDATE message SET state = max(state, ?), delivered_at = coalesce(delivered_at, ?),"
            " read_at = coalesce(read_at, ?), at = coalesce(?, at) WHERE key = ?",
            (int(State(state)), delivered, read, at, known),
        )
        if added is None:
            return
        self._db.execute(
            "UPDATE message SET delivered_at = ?, edited = ?, deleted = ?, expires_at = ?,"
            " view_once = ? WHERE key = ?",
            (delivered, edited, deleted, expires, int(ViewOnce(view_once)), added),
        )
        if said is None:
            self._db.execute("UPDATE message SET text = NULL, data = NULL WHERE key = ?", (added,))
        for who, emoji, when in reactions:
            self._db.execute(
                "INSERT OR IGNORE INTO reaction (message, account, emoji, at) VALUES (?, ?, ?, ?)",
                (added, bytes(who), str(emoji), int(when)),
            )
        for who, choices, when in votes:
            self._db.execute(
                "INSERT OR IGNORE INTO vote (message, account, choices, at) VALUES (?, ?, ?, ?)",
                (added, bytes(who), bytes(choices), int(when)),
            )
        for author, change, changed_at in self._store.changes.take_waiting(peer.id, name):
            target = self._store.changes.target(peer.id, name)
            assert target is not None
            self._store.changes.apply(target, author, change, changed_at)


def _account(message: Message) -> AccountId | None:
    return message.conversation.account


def _record(message: Message) -> list[Any]:
    said = None
    if message.body is not None and message.view_once is ViewOnce.NO:
        said = content.encode(message.body)
    times = (
        message.composed,
        message.at,
        message.delivered_at,
        message.read_at,
        message.edited_at,
        message.deleted_at,
        message.expires_at,
    )
    view_once = ViewOnce.NO if message.view_once is ViewOnce.NO else ViewOnce.OPENED
    reactions = [list(each) for each in message.reactions]
    votes = [[account, bytes(choices), 0] for account, choices in message.votes]
    return [
        message.conversation.account,
        message.outgoing,
        message.name,
        said,
        times,
        int(message.state),
        int(view_once),
        reactions,
        votes,
    ]


def _packed(kind: int, items: list[Any]) -> bytes:
    return zlib.compress(msgpack.packb([kind, items]), 6)


def _unpacked(data: bytes) -> tuple[int, list[Any]]:
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, _UNPACKED_MOST)
        if inflate.unconsumed_tail:
            raise Malformed("A part of the history is larger than any may be.")
        match msgpack.unpackb(plain, max_ext_len=0, strict_map_key=True):
            case [int(kind), [*items]]:
                return kind, items
    except RaychatError:
        raise
    except Exception as error:  # zlib and msgpack raise many kinds for hostile bytes
        raise Malformed("A part of the history cannot be read.") from error
    raise Malformed("A part of the history is not as agreed.")
