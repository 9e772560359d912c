"""What a client tells its user: typed, frozen events, and the feed they come through.

Events are hints, the history is the truth: an event is sent after what it tells of has been
committed. Times are milliseconds since 1970; `key` is `Message.key`, `conversation` the
`Conversation.id` it belongs to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from raychat.client.model import Message
from raychat.errors import RaychatError
from raychat.ids import AccountId, DeviceId

FEED_EVENTS: Final = 10_000
"""So many events wait for a reader of the feed; beyond it the oldest give way to `Lagged`."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The server knows this device is here; `waiting` envelopes are on their way."""

    waiting: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone; the client comes back by itself."""

    error: RaychatError


@dataclass(frozen=True, slots=True)
class Stopped:
    """The client will not connect again by itself, for this reason."""

    error: RaychatError


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message was decrypted and is in the history."""

    message: Message


@dataclass(frozen=True, slots=True)
class Sent:
    """✓ The server keeps the message."""

    key: int
    conversation: int
    at: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """✓✓ A device of the recipient has decrypted the message and kept it."""

    key: int
    conversation: int
    at: int


@dataclass(frozen=True, slots=True)
class Read:
    """✓✓ (blue) The recipient has read the message."""

    key: int
    conversation: int
    at: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The recipient never fetched the message; the server has deleted it."""

    key: int
    conversation: int
    at: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The message was given up; nothing will be sent."""

    key: int
    conversation: int
    error: RaychatError


@dataclass(frozen=True, slots=True)
class Undecryptable:
    """A message came that this device cannot open. Its sender gets no ✓✓."""

    account: AccountId
    device: DeviceId
    error: RaychatError


@dataclass(frozen=True, slots=True)
class IdentityChanged:
    """A device has another identity key than before: it was registered anew, or someone else
    answers in its place. Compare safety numbers."""

    account: AccountId
    device: DeviceId
    conversation: int | None


@dataclass(frozen=True, slots=True)
class NumberFound:
    """The number of a conversation is known now. It may have a new id: `conversation`."""

    conversation: int


@dataclass(frozen=True, slots=True)
class InboxGap:
    """Inbox numbers first..last were acknowledged by this device, but are not in its file: it
    is a copy older than the device's last connection."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Lagged:
    """The reader of the feed was too slow: `missed` events are gone. Read the history."""

    missed: int


Event = (
    Connected
    | Disconnected
    | Stopped
    | MessageReceived
    | Sent
    | Delivered
    | Read
    | Expired
    | Failed
    | Undecryptable
    | IdentityChanged
    | NumberFound
    | InboxGap
    | Lagged
)


class Feed:
    """A bounded queue of events with one reader, who learns what it missed."""

    __slots__ = ("__weakref__", "_closed", "_events", "_missed", "_most", "_wake")

    def __init__(self, most: int = FEED_EVENTS) -> None:
        self._events: deque[Event] = deque()
        self._most = most
        self._missed = 0
        self._closed = False
        self._wake = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._events) >= self._most:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self._wake.set()

    def close(self) -> None:
        """The reader gets what is there, and then the end."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return Lagged(missed)
            if self._events:
                return self._events.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
