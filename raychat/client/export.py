"""The history for other programs and for paper: JSON lines, or plain text.

Messages come in the order of the history, page by page, so that any length of it fits. Of what
was deleted, or is to be viewed once, there is only that it was there; what has disappeared is
not among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from raychat.client.display import as_json, line, printable
from raychat.client.history import History
from raychat.client.model import Message

PAGE: Final = 500
"""Messages read at a time."""


def messages(history: History, conversation: int | None, now: int) -> Iterator[Message]:
    """All messages of one conversation, or of all, oldest first, as of `now` (ms)."""
    key = 0
    while page := history.messages_after(conversation, key, PAGE):
        key = page[-1].key
        yield from (m for m in page if m.expires_at is None or m.expires_at > now)


def json_lines(history: History, conversation: int | None, now: int) -> Iterator[str]:
    """One JSON object for each message, as `--json` prints it."""
    for message in messages(history, conversation, now):
        yield json.dumps(as_json(message), ensure_ascii=False) + "\n"


def text_lines(history: History, conversation: int | None, now: int) -> Iterator[str]:
    """Each message as a line with its full date; with several conversations, each is named."""
    for message in messages(history, conversation, now):
        prefix = f"[{printable(message.conversation.title)}] " if conversation is None else ""
        yield prefix + line(message, 0) + "\n"
