"""How messages look in a terminal: marks, times, and text made safe to show. Pure.

What others wrote can hold control characters that move the cursor or change the terminal, and
bidirectional overrides that make a line read as another. Neither reaches the screen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from raychat.client.model import Message, State
from raychat.ids import account_text

MARKS: Final = {
    State.QUEUED: "…",
    State.FAILED: "✗ not sent",
    State.SENT: "✓",
    State.EXPIRED: "✗ expired",
    State.DELIVERED: "✓✓",
    State.READ: "✓✓",
}

UNKNOWN: Final = "(a message of a newer raychat; update this one to read it)"

_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """The text with everything that could act on a terminal replaced; lines stay lines."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")).expandtabs(4)


def body(message: Message) -> str:
    """What to show of a message's content."""
    return UNKNOWN if message.text is None else printable(message.text)


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
    text = body(message).replace("\n", "\n" + " " * len(head))
    mark = f"  {MARKS[message.state]}" if message.outgoing else ""
    read = " read" if message.outgoing and message.state is State.READ else ""
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
    if message.outgoing:
        found.append((f"class:{message.state.name.lower()}", f"  {MARKS[message.state]}"))
    return [*found, ("", "\n")]


def as_json(message: Message) -> dict[str, Any]:
    """A message as the commands print it with --json. Times in ms since 1970."""
    peer = message.conversation
    return {
        "key": message.key,
        "account": account_text(peer.account) if peer.account else None,
        "number": str(peer.number) if peer.number else None,
        "outgoing": message.outgoing,
        "text": message.text,
        "state": message.state.name.lower(),
        "composed": message.composed,
        "sent": message.at,
        "delivered": message.delivered_at,
        "read": message.read_at,
    }


def lines(messages: Sequence[Message], now: int) -> str:
    return "".join(line(message, now) + "\n" for message in messages)
