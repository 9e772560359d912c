"""Finding messages by their words, or parts of them, their sender, date and kind.

Words of three characters and more are looked up in the index (trigrams, so that a part of a
word is as good as all of it); shorter ones are looked for in the messages that are left. Upper
and lower case and accents make no difference. Nothing that is deleted is in the index or in a
message.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw

from raychat import limits
from raychat.client.history import History
from raychat.client.model import Message
from raychat.client.rows import Rows
from raychat.ids import AccountId

TRIGRAM: Final = 3


class Query(NamedTuple):
    """What to look for: all of it must hold. Times are the senders' clocks (ms)."""

    text: str = ""
    """Words, or parts of them; each must be in the message."""
    conversation: int | None = None
    sender: AccountId | None = None
    since: int | None = None
    until: int | None = None
    kinds: tuple[int, ...] = ()
    """Kinds of contents (`raychat.wire.content.Kind`); none means all."""
    before: int | None = None
    """Only messages with a smaller key: the next page."""

    def __repr__(self) -> str:
        return "Query(…)"


def folded(text: str) -> str:
    """The text without case and accents, as the index sees it."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(c for c in apart if not unicodedata.combining(c)).lower()


def words(text: str) -> list[str]:
    """The words of what a person looks for, at most `limits.SEARCH_WORDS`."""
    return text.replace("\0", " ").split()[: limits.SEARCH_WORDS]


class Search(Rows):
    """Over the table `message_text`."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__(db)
        db.create_scalar_function("folded", _folded, 1, deterministic=True)

    def find(self, query: Query, now: int, limit: int = 50) -> list[Message]:
        """The latest messages that match, the latest first. What is to disappear by `now` (ms)
        has."""
        return History(self._db).messages(self.keys(query, now, limit))

    def keys(self, query: Query, now: int, limit: int = 50) -> list[int]:
        """The same as keys."""
        conditions = ["deleted IS NULL", "(expires_at IS NULL OR expires_at > ?)"]
        values: list[Any] = [now]

        def add(condition: str, *given: object) -> None:
            conditions.append(condition)
            values.extend(given)

        wanted = words(query.text)
        indexed = [word for word in wanted if _is_indexed(word)]
        if indexed:
            phrases = " ".join('"' + word.replace('"', '""') + '"' for word in indexed)
            add("key IN (SELECT rowid FROM message_text WHERE message_text MATCH ?)", phrases)
        for word in wanted:
            if not _is_indexed(word):
                add("instr(folded(text), ?)", folded(word))
        if query.conversation is not None:
            add("conversation = ?", query.conversation)
        if query.sender is not None:
            add("author = ?", query.sender)
        if query.since is not None:
            add("composed >= ?", query.since)
        if query.until is not None:
            add("composed <= ?", query.until)
        if query.kinds:
            add(f"kind IN ({', '.join('?' * len(query.kinds))})", *query.kinds)
        if query.before is not None:
            add("key < ?", query.before)
        rows: Sequence[Any] = self._rows(
            f"SELECT key FROM message WHERE {' AND '.join(conditions)}"  # noqa: S608
            " ORDER BY key DESC LIMIT ?",
            *values,
            limit,
        )
        return [key for (key,) in rows]


def _is_indexed(word: str) -> bool:
    """Whether the index can find a word: it counts characters without their accents."""
    plain = unicodedata.normalize("NFC", word)
    return sum(not unicodedata.combining(c) for c in plain) >= TRIGRAM


def _folded(text: str | None) -> str | None:
    return None if text is None else folded(text)
