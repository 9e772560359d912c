"""How what a message says lies in its row.

`text` is what is searched. A plain text is nothing else; of everything richer `data` holds the
whole content, without what has columns of its own or concerns only its way here. A view-once
text lies in `data` alone, so that no index ever holds it.
"""

from __future__ import annotations

from typing import NamedTuple

from raychat.client.model import Body, ViewOnce
from raychat.errors import Malformed, TooLarge
from raychat.wire import content
from raychat.wire.content import Contact, Location, Message, MessageName, Poll, Reply, Text, Timer


class Stored(NamedTuple):
    """The columns of a body, in the order of `COLUMNS`."""

    kind: int
    text: str | None
    data: bytes | None
    timer: int | None
    view_once: int
    forwarded: int
    reply_account: bytes | None = None
    reply_device: int | None = None
    reply_incarnation: int | None = None
    reply_id: int | None = None
    reply_text: str | None = None

    def __repr__(self) -> str:
        return f"Stored(kind={self.kind})"


COLUMNS = ", ".join(Stored._fields)


def store(body: Body) -> Stored:
    """The columns of what a message says."""
    kind = content.kind_of(body)
    if isinstance(body, content.Unknown):
        return Stored(kind, None, body.data, None, ViewOnce.NO, 0)
    if isinstance(body, Timer):
        return Stored(kind, None, content.encode(body), None, ViewOnce.NO, 0)
    hidden = isinstance(body, Text) and body.view_once
    return Stored(
        kind,
        None if hidden else searchable(body),
        details(body),
        body.expires,
        ViewOnce.CLOSED if hidden else ViewOnce.NO,
        body.forwarded,
        *((*body.reply.name, body.reply.snippet) if body.reply else ()),
    )


def searchable(body: Message) -> str | None:
    """The words a message can be found by."""
    match body:
        case Text():
            return body.text
        case Contact():
            return "\n".join((body.name, *body.numbers))
        case Location():
            return body.name or None
        case Poll():
            return "\n".join((body.question, *body.options))


def details(body: Message) -> bytes | None:
    """The content, if its text and the other columns are not all of it."""
    if isinstance(body, Text) and not (body.mentions or body.preview or body.view_once):
        return None
    bare = body._replace(number=None, list_version=None, reply=None, forwarded=0, expires=None)
    return content.encode(bare)


def restore(composed: int, columns: Stored) -> Body | None:
    """What the columns say; None if nothing is left of it."""
    if columns.data is not None:
        return _read(composed, columns, columns.data)
    if columns.text is not None:
        return _completed(Text(composed, columns.text), columns)
    return None


def _read(composed: int, columns: Stored, data: bytes) -> Body:
    try:
        found = content.decode(data)
    except (Malformed, TooLarge):  # kept by a version that knew less of it
        found = None
    match found:
        case Text() | Contact() | Location() | Poll():
            return _completed(found, columns)
        case Timer() | content.Unknown():
            return found
    return content.Unknown(composed, content.VERSION, columns.kind, data)


def _completed(body: Message, columns: Stored) -> Message:
    if columns.reply_id is not None:
        name = MessageName._make(columns[6:10])
        body = body._replace(reply=Reply(name, columns.reply_text or ""))
    if columns.forwarded:
        body = body._replace(forwarded=columns.forwarded)
    return body._replace(expires=columns.timer) if columns.timer else body
