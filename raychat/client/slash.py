"""What can be done in the terminal chat besides writing: lines that begin with a slash.

A line that is to begin with a slash itself begins with two. Messages are named from the latest
one on: #1 is the latest.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from raychat.client.acting import Peer
from raychat.client.client import Client
from raychat.client.display import printable, span
from raychat.client.model import Message, ViewOnce
from raychat.client.verifying import is_same
from raychat.clock import wall_ms
from raychat.errors import BadRequest, NotFound
from raychat.wire.content import Kind, Poll

LATEST: Final = 500
"""So many messages can be named."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NUMBER: Final = re.compile(r"#([1-9][0-9]{0,3})(?:\s+|$)")
_TIME: Final = re.compile(r"([1-9][0-9]{0,7})\s*([smhdw])")


class Usage(NamedTuple):
    """How a command is typed, and what it does."""

    words: str
    does: str


USAGES: Final = {
    "reply": Usage("[#N] WORDS", "answer a message (their latest one)"),
    "edit": Usage("[#N] WORDS", "let your message (the latest one) say something else"),
    "delete": Usage("[#N]", "delete your message (the latest one) for everyone"),
    "react": Usage("[#N] EMOJI", "react to a message (their latest one); - takes it back"),
    "poll": Usage("QUESTION | OPTION | OPTION …", "ask something"),
    "vote": Usage("[#N] PLACE…", "choose options of a poll (the latest one), from 1 on"),
    "open": Usage("[#N]", "read a message that can be viewed once"),
    "once": Usage("WORDS", "write a message that can be viewed once"),
    "timer": Usage("TIME | off", "let new messages disappear after 30s, 5m, 1h, 1d, 1w"),
    "accept": Usage("", "accept this person: they see ✓✓ and what you have read"),
    "block": Usage("", "hear nothing more of this person"),
    "unblock": Usage("", "hear of this person again"),
    "verify": Usage("[yes | no | THEIR NUMBER]", "compare safety numbers"),
    "help": Usage("", "show this"),
}


def is_slash(line: str) -> bool:
    """Whether a line is a command and no message."""
    return line.startswith("/") and not line.startswith("//")


def unescaped(line: str) -> str:
    """A message as it was meant."""
    return line[1:] if line.startswith("//") else line


def seconds_of(text: str) -> int:
    """A length of time as people write it: 30s, 5m, 1h, 1d, 1w, off. Raises BadRequest."""
    written = text.strip().casefold()
    if written in ("off", "0"):
        return 0
    found = _TIME.fullmatch(written)
    if found is None:
        raise BadRequest("A time is written like 30s, 5m, 1h, 1d or 1w; off takes it away.")
    return int(found[1]) * _UNITS[found[2]]


class Slash:
    """The commands of one chat."""

    def __init__(self, client: Client, peer: Peer) -> None:
        self._client = client
        self._peer = peer
        self._run: dict[str, Callable[[str], Awaitable[list[str]]]] = {
            "reply": self._reply,
            "edit": self._edit,
            "delete": self._delete,
            "react": self._react,
            "poll": self._poll,
            "vote": self._vote,
            "open": self._open,
            "once": self._once,
            "timer": self._timer,
            "accept": self._accept,
            "block": self._block,
            "unblock": self._unblock,
            "verify": self._verify,
            "help": self._help,
        }

    async def run(self, line: str) -> list[str]:
        """Do what a line says; what to tell the person. Raises what the `Client` does."""
        name, _, rest = line[1:].partition(" ")
        command = self._run.get(name.casefold())
        if command is None:
            raise BadRequest(
                f"There is no /{printable(name)}; /help shows what there is. A message that "
                "begins with a slash is written with two."
            )
        return await command(rest.strip())

    # -- messages --------------------------------------------------------------------------

    def messages(self) -> list[Message]:
        """Those that can be named: the latest first, notices left out."""
        found = self._client.history(self._peer, limit=LATEST)
        return [message for message in reversed(found) if not message.is_notice]

    def _named(self, rest: str, suits: Callable[[Message], bool], what: str) -> tuple[Message, str]:
        """The message a line is about, and what it says besides. Raises NotFound."""
        messages = self.messages()
        found = _NUMBER.match(rest)
        if found is not None:
            place = int(found[1])
            if place > len(messages):
                raise NotFound(f"There is no message #{place}.")
            return messages[place - 1], rest[found.end() :].strip()
        for message in messages:
            if suits(message):
                return message, rest
        raise NotFound(f"There is no message {what}.")

    async def _reply(self, rest: str) -> list[str]:
        message, words = self._named(rest, _theirs, "to answer")
        await self._client.send(self._peer, words, reply_to=message)
        return []

    async def _edit(self, rest: str) -> list[str]:
        message, words = self._named(rest, _own_text, "of yours to edit")
        await self._client.edit(message, words)
        return []

    async def _delete(self, rest: str) -> list[str]:
        message, _ = self._named(rest, _own, "of yours to delete")
        await self._client.delete(message)
        return []

    async def _react(self, rest: str) -> list[str]:
        message, emoji = self._named(rest, _theirs, "to react to")
        if not emoji:
            raise BadRequest(_usage("react"))
        await self._client.react(message, "" if emoji == "-" else emoji)
        return []

    async def _poll(self, rest: str) -> list[str]:
        question, *options = (part.strip() for part in rest.split("|"))
        if not question or len(options) < 2 or not all(options):
            raise BadRequest(_usage("poll"))
        await self._client.say(self._peer, Poll(wall_ms(), question, tuple(options)))
        return []

    async def _vote(self, rest: str) -> list[str]:
        poll, places = self._named(rest, _is_poll, "to vote on")
        try:
            choices = [int(place) - 1 for place in places.replace(",", " ").split()]
        except ValueError:
            raise BadRequest(_usage("vote")) from None
        await self._client.vote(poll, choices)
        return []

    async def _open(self, rest: str) -> list[str]:
        message, _ = self._named(rest, _is_closed, "to open")
        words = self._client.open_once(message)
        if words is None:
            raise NotFound("That message was viewed already, or is gone.")
        return [f"It says (once): {printable(words)}"]

    async def _once(self, rest: str) -> list[str]:
        await self._client.send(self._peer, rest, view_once=True)
        return []

    # -- the conversation ------------------------------------------------------------------

    async def _timer(self, rest: str) -> list[str]:
        if not rest:
            conversation = self._client.conversation(self._peer)
            if conversation is None or not conversation.timer:
                return ["New messages stay."]
            return [f"New messages disappear after {span(conversation.timer)}."]
        await self._client.set_timer(self._peer, seconds_of(rest))
        return []

    async def _accept(self, _rest: str) -> list[str]:
        await self._client.accept(self._peer)
        return ["Accepted: they see ✓✓ and what you have read."]

    async def _block(self, _rest: str) -> list[str]:
        await self._client.block(self._peer)
        return ["Blocked: nothing more of them will come. They are not told. /unblock ends it."]

    async def _unblock(self, _rest: str) -> list[str]:
        await self._client.unblock(self._peer)
        return ["Not blocked any more. What they wrote meanwhile is gone."]

    async def _verify(self, rest: str) -> list[str]:
        number = self._client.safety_number(self._peer)
        if rest.casefold() in ("yes", "no"):
            await self._client.set_verified(self._peer, rest.casefold() == "yes")
        elif rest:
            same = is_same(number, rest)
            await self._client.set_verified(self._peer, same)
            if not same:
                return ["The safety numbers are NOT the same: somebody may stand between you."]
        else:
            lines = [" ".join(number.groups[at : at + 4]) for at in (0, 4, 8)]
            ask = "The same on both sides? Then: /verify yes"
            return ["Your safety number with them:", *lines, self._state(), ask]
        return [self._state()]

    def _state(self) -> str:
        verified = self._client.is_verified(self._peer)
        return "The numbers were compared, and are the same." if verified else "Not compared."

    async def _help(self, _rest: str) -> list[str]:
        return [f"{_typed(name)}  {usage.does}" for name, usage in USAGES.items()]


def _typed(name: str) -> str:
    return f"/{name} {USAGES[name].words}".strip()


def _usage(name: str) -> str:
    return f"It is typed: {_typed(name)}"


def _theirs(message: Message) -> bool:
    return not message.outgoing and message.deleted_at is None


def _own(message: Message) -> bool:
    return message.outgoing and message.deleted_at is None


def _own_text(message: Message) -> bool:
    return _own(message) and message.kind == Kind.TEXT


def _is_poll(message: Message) -> bool:
    return isinstance(message.body, Poll)


def _is_closed(message: Message) -> bool:
    return not message.outgoing and message.view_once is ViewOnce.CLOSED


def numbered(messages: Sequence[Message]) -> dict[int, int]:
    """By its key the number each message is named by (`messages`: the latest last)."""
    named = [message.key for message in reversed(messages) if not message.is_notice]
    return {key: place for place, key in enumerate(named, start=1)}
