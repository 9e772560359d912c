"""What a person has on a device: conversations, messages and the marks on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum

from raychat.errors import OutOfOrder
from raychat.ids import AccountId, PhoneNumber, account_text


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


@dataclass(frozen=True, slots=True)
class Conversation:
    """With whom. `account` is None until a number has been looked up; `number` is None until
    one is known to belong to the account."""

    id: int
    account: AccountId | None
    number: PhoneNumber | None
    name: str | None = None

    @property
    def title(self) -> str:
        """What to show: the name, else the number, else the account."""
        if self.name or self.number:
            return self.name or str(self.number)
        return account_text(self.account) if self.account else "?"

    def __repr__(self) -> str:
        return f"Conversation({self.id})"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the history, as it was when it was read from there.

    `key` names it on this device, in the order of the history. `composed` is the sender's
    clock, `at` the server's (None until it is sent), both in ms. `text` is None for a content
    this version does not know.
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
    waiter: Waiter | None = field(default=None, repr=False, compare=False)

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
