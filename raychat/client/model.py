"""What a person has on a device: conversations, messages and the marks on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from raychat.errors import OutOfOrder
from raychat.ids import AccountId, PhoneNumber, account_text
from raychat.wire import content
from raychat.wire.content import Kind, MessageName


class State(IntEnum):
    """How far a message has come. It only ever grows, so that marks can be merged by `max`.

    A received message is DELIVERED until the person has read it.
    """

    QUEUED = 0
    """Kept on this device, not yet acknowledged by the server."""
    FAILED = 1
    """Given up: the server refused it for good."""
    SENT = 2
    """✓ durable at the server."""
    EXPIRED = 3
    """Never fetched within the retention, and deleted there."""
    DELIVERED = 4
    """✓✓ decrypted by a device of the recipient and kept there."""
    READ = 5
    """✓✓ (blue) the reader's device said so, end to end encrypted."""


class ViewOnce(IntEnum):
    """Whether a message may be looked at only once, and was."""

    NO = 0
    CLOSED = 1
    OPENED = 2
    """Its words are gone from this device. So they are from the sender's, once delivered."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """With whom. `account` is None until a number has been looked up; `number` is None until
    one is known to belong to the account.

    `name` is what this person calls the peer, `profile` what the peer says they are called.
    `timer`: seconds after which new messages disappear, 0 if they stay. `muted`: until (ms).
    `pinned`: its place from 1 on, 0 if it is not. `verified`: the account key compared.
    """

    id: int
    account: AccountId | None
    number: PhoneNumber | None
    name: str | None = None
    accepted: bool = False
    blocked: bool = False
    muted: int = 0
    archived: bool = False
    pinned: int = 0
    timer: int = 0
    verified: bytes | None = None
    profile: str | None = None

    @property
    def title(self) -> str:
        """What to show: the name, else the number, else what they call themselves."""
        if self.name or self.number:
            return self.name or str(self.number)
        if self.profile:
            return f"~{self.profile}"
        return account_text(self.account) if self.account else "?"

    @property
    def is_request(self) -> bool:
        """Whether a stranger has written whom this person has neither answered nor blocked."""
        return not self.accepted and not self.blocked

    def __repr__(self) -> str:
        return f"Conversation({self.id})"


class Reacted(NamedTuple):
    """What somebody thinks of a message, and since when (sender's clock, ms)."""

    account: AccountId
    emoji: str
    at: int

    def __repr__(self) -> str:
        return f"Reacted(at={self.at})"


class Voted(NamedTuple):
    """What somebody has chosen in a poll: places of its options."""

    account: AccountId
    choices: tuple[int, ...]

    def __repr__(self) -> str:
        return "Voted(…)"


Body = content.Message | content.Timer | content.Unknown
"""What a message of the history can say."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the history, as it was when it was read from there.

    `key` names it on this device, in the order of the history. `composed` is the sender's
    clock, `at` the server's (None until it is sent), both in ms. `text` is what can be read and
    searched of it; None for a content this version does not know, and where nothing is left.

    `author` has written it. `name` is what all devices call it, None until it is sent. `body`
    is all that it says, None if it was deleted or was to be viewed once. `reply_key` is the
    message it answers, if that is here. `timer` (seconds) runs until `expires_at` (ms).
    """

    key: int
    conversation: Conversation
    outgoing: bool
    text: str | None
    composed: int
    at: int | None
    state: State
    delivered_at: int | None = None
    read_at: int | None = None
    kind: int = Kind.TEXT
    author: AccountId | None = None
    name: MessageName | None = None
    body: Body | None = None
    edited_at: int | None = None
    deleted_at: int | None = None
    timer: int | None = None
    expires_at: int | None = None
    view_once: ViewOnce = ViewOnce.NO
    reply_key: int | None = None
    reactions: tuple[Reacted, ...] = ()
    votes: tuple[Voted, ...] = ()
    waiter: Waiter | None = field(default=None, repr=False, compare=False)

    @property
    def forwarded(self) -> int:
        """How many times it was passed on."""
        return getattr(self.body, "forwarded", 0)

    @property
    def reply(self) -> content.Reply | None:
        """What it answers."""
        found: content.Reply | None = getattr(self.body, "reply", None)
        return found

    @property
    def is_notice(self) -> bool:
        """Whether it tells of the conversation instead of saying something."""
        return self.kind == Kind.TIMER

    async def sent(self, timeout: float | None = 30) -> Message:
        """Wait (seconds) for ✓. Raises Timeout, or why the message was given up."""
        return await self._reached(State.SENT, timeout)

    async def delivered(self, timeout: float | None = 30) -> Message:
        """Wait (seconds) for ✓✓. Raises Timeout, or why it will not come."""
        return await self._reached(State.DELIVERED, timeout)

    async def read(self, timeout: float | None = 30) -> Message:
        """Wait (seconds) until the recipient has read it. Raises Timeout, or why it will not be."""
        return await self._reached(State.READ, timeout)

    async def _reached(self, state: State, timeout: float | None) -> Message:
        if self.waiter is None:
            raise OutOfOrder("Only a message that was just sent can be waited for.")
        return await self.waiter(self, state, timeout)

    def __repr__(self) -> str:
        side = "to" if self.outgoing else "from"
        return f"Message({self.key} {side} {self.conversation!r}, {self.state.name})"


Waiter = Callable[[Message, State, float | None], Awaitable[Message]]
"""Waits until a message has reached a state, at most so many seconds."""
