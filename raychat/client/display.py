"""How messages look in a terminal: marks, times, and text made safe to show. Pure.

What others wrote can hold control characters that move the cursor or change the terminal, and
bidirectional overrides that make a line read as another. Neither reaches the screen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from raychat.client.model import Message, State, ViewOnce
from raychat.ids import account_text
from raychat.wire.content import (
    Contact,
    Kind,
    Location,
    Poll,
    Preview,
    Text,
    Timer,
    Unknown,
)

MARKS: Final = {
    State.QUEUED: "…",
    State.FAILED: "✗ not sent",
    State.SENT: "✓",
    State.EXPIRED: "✗ expired",
    State.DELIVERED: "✓✓",
    State.READ: "✓✓",
}

UNKNOWN: Final = "(a message of a newer raychat; update this one to read it)"

DELETED: Final = "(this message was deleted)"

VIEW_ONCE: Final = {
    ViewOnce.NO: "(view once)",
    ViewOnce.CLOSED: "(view once: open it to read it)",
    ViewOnce.OPENED: "(view once: opened)",
}

MANY: Final = 5
"""Passed on so many times, it is likely to be no one's own words."""

_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """The text with everything that could act on a terminal replaced; lines stay lines."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")).expandtabs(4)


def body(message: Message) -> str:
    """What to show of a message's content."""
    if message.deleted_at is not None:
        return DELETED
    if message.view_once is not ViewOnce.NO:
        return VIEW_ONCE[ViewOnce.NO if message.outgoing else message.view_once]
    said = message.body
    match said:
        case Poll():
            shown = "\n".join([f"📊 {printable(said.question)}", *options(message, said)])
        case Contact(_, name, numbers):
            shown = printable(" ".join(("👤", name, *numbers)))
        case Location():
            place = f"{said.latitude:.5f}, {said.longitude:.5f}"
            about = f" (±{said.accuracy:.0f} m)" if said.accuracy else ""
            shown = printable(f"📍 {said.name} {place}".replace("  ", " ")) + about
        case Timer(_, seconds):
            after = f"after {span(seconds)}" if seconds else "no more"
            return f"(new messages disappear {after})"
        case Text(preview=Preview() as preview):
            about = " · ".join(filter(None, (preview.title, preview.description)))
            shown = printable(f"{said.text}\n🔗 {about or preview.url}")
        case Text(_, words):
            shown = printable(words)
        case Unknown():
            return UNKNOWN
        case _:
            shown = UNKNOWN if message.text is None else printable(message.text)
    return "\n".join(filter(None, (heading(message), shown)))


def heading(message: Message) -> str:
    """What stands above a message: that it was passed on, and what it answers."""
    lines = []
    if message.forwarded:
        lines.append("↪ forwarded" + (" many times" if message.forwarded >= MANY else ""))
    if message.reply is not None:
        theirs = message.reply.name.account == message.conversation.account
        author = message.conversation.title if theirs else "you"
        words = message.reply.snippet or "(a message that is not here)"
        lines.append(printable(f"> {author}: {' '.join(words.split())}"))
    return "\n".join(lines)


def options(message: Message, poll: Poll) -> list[str]:
    """A line for each option of a poll: its votes, and whether one's own is among them."""
    theirs = message.conversation.account
    lines = []
    for place, option in enumerate(poll.options):
        votes = [vote.account for vote in message.votes if place in vote.choices]
        own = any(account != theirs for account in votes)
        lines.append(f"{'●' if own else '○'} {printable(option)}  {len(votes)}")
    return lines


def notes(message: Message) -> str:
    """What stands after a message: reactions, that it was edited, when it disappears."""
    counts: dict[str, int] = {}
    for reacted in message.reactions:
        counts[reacted.emoji] = counts.get(reacted.emoji, 0) + 1
    found = [
        printable(emoji) + (f" {count}" if count > 1 else "") for emoji, count in counts.items()
    ]
    if message.edited_at is not None:
        found.append("(edited)")
    if message.timer:
        found.append(f"⏳ {span(message.timer)}")
    return "".join(f"  {note}" for note in found)


def span(seconds: int) -> str:
    """A length of time in its largest unit that is not below 1."""
    for size, unit in ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = f"{seconds / size:.1f}".removesuffix(".0")
            return f"{count} {unit}" + ("" if count == "1" else "s")
    return f"{seconds} second" + ("" if seconds == 1 else "s")


def who(message: Message) -> str:
    return "you" if message.outgoing else printable(message.conversation.title)


def moment(ms: int, now: int) -> str:
    """A time (ms) in local time: without the date if it is that of `now`."""
    then = datetime.fromtimestamp(min(ms, 253_000_000_000_000) / 1000).astimezone()
    today = datetime.fromtimestamp(now / 1000).astimezone().date()
    return then.strftime("%H:%M" if then.date() == today else "%Y-%m-%d %H:%M")


def line(message: Message, now: int) -> str:
    """One message in plain text, its further lines indented."""
    head = f"{moment(message.composed, now)} {who(message)}: "
    text = body(message).replace("\n", "\n" + " " * len(head)) + notes(message)
    marked = message.outgoing and not message.is_notice
    mark = f"  {MARKS[message.state]}" if marked else ""
    read = " read" if marked and message.state is State.READ else ""
    return head + text + mark + read


Fragments = list[tuple[str, str]]
"""Styled pieces of text: (style class, text), as prompt_toolkit and rich can use them."""


def fragments(message: Message, now: int) -> Fragments:
    """One message with a style for each piece, and the line's end."""
    side = "class:mine" if message.outgoing else "class:theirs"
    time = moment(message.composed, now)
    name = who(message)
    indent = " " * (len(time) + len(name) + 3)
    found = [
        ("class:time", f"{time} "),
        (side, f"{name}: "),
        ("", body(message).replace("\n", "\n" + indent)),
    ]
    about = notes(message)
    if about:
        found.append(("class:note", about))
    if message.outgoing and not message.is_notice:
        found.append((f"class:{message.state.name.lower()}", f"  {MARKS[message.state]}"))
    return [*found, ("", "\n")]


def as_json(message: Message) -> dict[str, Any]:
    """A message as the commands print it with --json. Times in ms since 1970."""
    peer, reply = message.conversation, message.reply
    return {
        "key": message.key,
        "account": account_text(peer.account) if peer.account else None,
        "number": str(peer.number) if peer.number else None,
        "outgoing": message.outgoing,
        "kind": kind_name(message),
        "text": message.text,
        "state": message.state.name.lower(),
        "composed": message.composed,
        "sent": message.at,
        "delivered": message.delivered_at,
        "read": message.read_at,
        "edited": message.edited_at,
        "deleted": message.deleted_at,
        "expires": message.expires_at,
        "view_once": message.view_once is not ViewOnce.NO,
        "forwarded": message.forwarded,
        "reply": {"key": message.reply_key, "text": reply.snippet} if reply else None,
        "reactions": [
            {"account": account_text(account), "emoji": emoji, "at": at}
            for account, emoji, at in message.reactions
        ],
        **_of_kind(message),
    }


def kind_name(message: Message) -> str:
    """What kind of content a message is, in one word."""
    known = message.kind in set(Kind) and not isinstance(message.body, Unknown)
    return Kind(message.kind).name.lower() if known else "unknown"


def _of_kind(message: Message) -> dict[str, Any]:
    match message.body:
        case Contact(_, name, numbers, account):
            found = account_text(account) if account else None
            card = {"name": name, "numbers": [str(number) for number in numbers]}
            return {"contact": {**card, "account": found}}
        case Location(_, latitude, longitude, accuracy, name):
            place = {"latitude": latitude, "longitude": longitude}
            return {"location": {**place, "accuracy": accuracy, "name": name}}
        case Poll(_, question, choices, multiple):
            votes = [
                {"account": account_text(account), "choices": list(places)}
                for account, places in message.votes
            ]
            poll = {"question": question, "options": list(choices), "multiple": multiple}
            return {"poll": {**poll, "votes": votes}}
        case Timer(_, seconds):
            return {"timer": seconds}
    return {}


def lines(messages: Sequence[Message], now: int) -> str:
    return "".join(line(message, now) + "\n" for message in messages)
