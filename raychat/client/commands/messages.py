"""`chat`, `send`, `history`, `search`, `export`: what people write to each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter, validators

from raychat.client import export as exporting
from raychat.client.commands.profile import (
    PLAIN_OR_COLORED,
    THIS_DEVICE,
    AsJson,
    Flag,
    Look,
    Profile,
    print_json,
    run,
    say,
)
from raychat.client.commands.terminal import enough, show
from raychat.client.display import as_json as to_json
from raychat.client.model import Message, State
from raychat.client.numbers import recipient
from raychat.client.search import Query
from raychat.client.store import DeviceStore
from raychat.clock import wall_ms
from raychat.errors import BadRequest, NotFound, Timeout
from raychat.ids import AccountId
from raychat.wire.content import Kind

Limit = Annotated[int, Parameter(validator=validators.Number(gte=1))]


class Wait(StrEnum):
    """How far a message is to come before `send` returns."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"


class Sought(StrEnum):
    """Kinds of messages that can be looked for."""

    TEXT = "text"
    CONTACT = "contact"
    LOCATION = "location"
    POLL = "poll"


class Format(StrEnum):
    """What an export is written as."""

    JSON = "json"
    TEXT = "text"


def chat(number: str, *, device: Profile = THIS_DEVICE, look: Look = PLAIN_OR_COLORED) -> int:
    """Chat with someone in the terminal. Ctrl-C leaves; /help shows what can be typed.

    Parameters
    ----------
    number
        The phone number (or account) to write to.
    """
    from raychat.client.chat import converse

    peer = recipient(number)

    async def go() -> None:
        async with device.client() as me:
            await converse(me, peer, colored=look.is_colored())

    run(go())
    return 0


def send(
    number: str,
    *text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    reply_to: int | None = None,
    view_once: Flag = False,
    wait: Wait = Wait.SENT,
    timeout: float = 30,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Send one message.

    Parameters
    ----------
    number
        The phone number (or account) to write to.
    text
        The words of the message; a single - reads it from stdin.
    reply_to
        The key of the message it answers, as --json shows it.
    view_once
        Let it be looked at once only.
    wait
        Return when it is sent (kept by the server), delivered or read.
    timeout
        Seconds to wait for that.
    as_json
        Print the message as one JSON object.
    """
    words = " ".join(text)
    if words in ("", "-"):
        words = sys.stdin.read().rstrip("\n")
    wanted = State[wait.name]

    async def go() -> Message:
        async with device.client() as me:
            answered = None
            if reply_to is not None:
                answered = me.message(reply_to)
                if answered is None or answered.name is None:
                    raise NotFound("There is no such message to answer.")
            message = await me.send(
                recipient(number), words, reply_to=answered, view_once=view_once
            )
            try:
                return await me.wait(message, wanted, timeout)
            except Timeout:
                now = me.message(message.key)
                if now is not None and now.state is State.QUEUED:
                    raise Timeout(
                        "The server could not be reached in time; the message is kept, and sent "
                        "when raychat runs the next time."
                    ) from None
                raise

    message = run(go())
    if as_json:
        print_json(to_json(message))
    else:
        print(message.state.name.lower())
    return 0


def history(
    number: str | None = None,
    *,
    limit: Limit = 50,
    device: Profile = THIS_DEVICE,
    look: Look = PLAIN_OR_COLORED,
    as_json: AsJson = False,
) -> int:
    """Show the latest messages, also while a chat is open in another terminal.

    Parameters
    ----------
    number
        The phone number (or account) of a conversation; all of them without it.
    limit
        How many messages.
    as_json
        Print one JSON object for each message.
    """
    messages: list[Message] = []
    with device.reader() as store:
        if number is None:
            messages = store.history.history(limit=limit, now=wall_ms())
        elif (conversation := store.history.conversation_with(recipient(number))) is not None:
            messages = store.history.history(conversation.id, limit=limit, now=wall_ms())
    _print(messages, look, as_json, everyone=number is None)
    return 0


def search(
    *words: str,
    chat_with: Annotated[str | None, Parameter(name="--with")] = None,
    sender: Annotated[str | None, Parameter(name="--from")] = None,
    since: str | None = None,
    until: str | None = None,
    kind: tuple[Sought, ...] = (),
    limit: Limit = 50,
    device: Profile = THIS_DEVICE,
    look: Look = PLAIN_OR_COLORED,
    as_json: AsJson = False,
) -> int:
    """Find messages, also while a chat is open in another terminal. The latest is shown last.

    Parameters
    ----------
    words
        Words, or parts of them; each must be in the message. Case and accents do not matter.
    chat_with
        Only in the conversation with this phone number (or account).
    sender
        Only what this phone number (or account) has written; `me` for oneself.
    since
        Only from this day or time on, like 2026-11-24 or 2026-11-24T18:30.
    until
        Only up to this day or time.
    kind
        Only messages of this kind; may be given several times.
    limit
        How many messages.
    as_json
        Print one JSON object for each message.
    """
    query = Query(
        " ".join(words),
        since=moment_ms(since) if since is not None else None,
        until=moment_ms(until, end=True) if until is not None else None,
        kinds=tuple(Kind[each.name] for each in kind),
    )
    found: list[Message] = []
    with device.reader() as store:
        narrowed = _narrowed(query, store, chat_with, sender)
        if narrowed is not None:
            found = store.search.find(narrowed, wall_ms(), limit)
    _print(found[::-1], look, as_json, everyone=chat_with is None)
    return 0


def _narrowed(
    query: Query, store: DeviceStore, chat_with: str | None, sender: str | None
) -> Query | None:
    """The query with whom it is about; None if nothing can be found, as they are not known."""
    if chat_with is not None:
        here = store.history.conversation_with(recipient(chat_with))
        if here is None:
            return None
        query = query._replace(conversation=here.id)
    if sender is not None:
        account = _account(store, sender)
        if account is None:
            return None
        query = query._replace(sender=account)
    return query


def _account(store: DeviceStore, text: str) -> AccountId | None:
    own = store.own()
    if text == "me":
        return own.account
    peer = recipient(text)
    if peer == own.number:
        return own.account
    found = store.history.conversation_with(peer)
    return found.account if found is not None else None


def moment_ms(text: str, *, end: bool = False) -> int:
    """A day or a time as people write it (ISO 8601; local time without a zone), in ms.

    `end`: of a day its last moment. Raises BadRequest.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(
            f"{text!r} is no date; write it like 2026-11-24 or 2026-11-24T18:30."
        ) from None
    if end and len(text) <= len("2026-11-24"):
        found += timedelta(days=1) - timedelta(milliseconds=1)
    try:
        return int(found.timestamp() * 1000)
    except (OverflowError, OSError, ValueError):
        raise BadRequest(f"{text!r} is no date a message can have.") from None


def _print(messages: list[Message], look: Look, as_json: bool, *, everyone: bool) -> None:
    with enough():
        if as_json:
            for message in messages:
                print_json(to_json(message))
        else:
            show(messages, wall_ms(), look, everyone=everyone)


_LINES: Final = {Format.JSON: exporting.json_lines, Format.TEXT: exporting.text_lines}


def export(
    number: str | None = None,
    *,
    format: Format = Format.JSON,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    force: Flag = False,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Write the whole history, in plain text or as JSON lines. It is not encrypted then.

    Parameters
    ----------
    number
        The phone number (or account) of a conversation; all of them without it.
    format
        json (one object for each message, as --json prints it) or text.
    output
        The file to write, readable by this user only; without it, stdout.
    force
        Write over a file that is there.
    as_json
        Print the outcome as one JSON object (with --output).
    """
    with device.reader() as store:
        conversation: int | None = None
        if number is not None:
            found = store.history.conversation_with(recipient(number))
            if found is None:
                raise NotFound("There is no conversation with that number.")
            conversation = found.id
        lines = _LINES[format](store.history, conversation, wall_ms())
        if output is None:
            with enough():
                sys.stdout.writelines(lines)
            return 0
        count = _write(lines, output, force)
    if as_json:
        print_json({"file": str(output), "format": format.value, "messages": count})
    else:
        say(f"{count} messages are in {output}. That file is not encrypted.")
    return 0


def _write(lines: Iterator[str], output: Path, force: bool) -> int:
    """Write a file of one's own; how many lines it was. Raises BadRequest."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    count = 0
    try:
        with os.fdopen(os.open(output, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)  # one that was there may be readable by others
            for line in lines:
                file.write(line)
                count += 1
    except FileExistsError:
        raise BadRequest(f"{output} is there already; --force writes over it.") from None
    except OSError as error:
        raise BadRequest(f"{output} cannot be written: {error.strerror}.") from error
    return count


__all__ = ["chat", "export", "history", "search", "send"]
