"""What a client tells its user: typed, frozen events, and the feed they come through.

Events are hints, the history is the truth: an event is sent after what it tells of has been
committed. Times are milliseconds since 1970; `key` is `Message.key`, `conversation` the
`Conversation.id` it belongs to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from raychat.client.model import Message
from raychat.errors import RaychatError
from raychat.ids import AccountId, DeviceId
from raychat.transparency.watch import Reason

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
class SentElsewhere:
    """Another device of one's own has sent this message; it is in the history."""

    message: Message


class What(Enum):
    """What has changed of a message."""

    EDITED = "edited"
    DELETED = "deleted"
    REACTED = "reacted"
    VOTED = "voted"
    OPENED = "opened"
    """It was viewed once, and is wiped."""


@dataclass(frozen=True, slots=True)
class MessageChanged:
    """A message is not what it was; `who` has changed it."""

    key: int
    conversation: int
    what: What
    who: AccountId


@dataclass(frozen=True, slots=True)
class MessageGone:
    """A message has disappeared, or was erased on a device of one's own."""

    key: int
    conversation: int


@dataclass(frozen=True, slots=True)
class SettingChanged:
    """A setting of a conversation is another now: its timer, its name, whether it is blocked.
    `conversation` is None if it is one's own."""

    conversation: int | None
    name: str


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
    """An account has another key than before: it was registered anew, or someone else answers in
    its place. Compare safety numbers."""

    account: AccountId
    conversation: int | None


@dataclass(frozen=True, slots=True)
class DeviceRefused:
    """The server named a device, or gave a list, that the account has not signed. Nothing is
    sent by it; `device` is None if it is about the list."""

    account: AccountId
    device: DeviceId | None
    error: RaychatError


@dataclass(frozen=True, slots=True)
class DeviceAdded:
    """Another device of one's own was linked. If that was nobody you know: revoke it."""

    device: DeviceId


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """A device of one's own was removed from the account."""

    device: DeviceId


@dataclass(frozen=True, slots=True)
class HistoryMoved:
    """The history is on its way between this device and `device`: `done` of `parts` parts."""

    device: DeviceId
    done: int
    parts: int


@dataclass(frozen=True, slots=True)
class TypingSeen:
    """Someone is writing, or has stopped."""

    conversation: int
    active: bool


@dataclass(frozen=True, slots=True)
class TransparencyAlarm:
    """The key log does not agree with what this device knows of an account, or with itself: the
    server, or whoever has broken into it, may be cheating. Compare safety numbers, and the head
    of the log, by another way than this server."""

    account: AccountId
    reason: Reason


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
    | SentElsewhere
    | MessageChanged
    | MessageGone
    | SettingChanged
    | Sent
    | Delivered
    | Read
    | Expired
    | Failed
    | Undecryptable
    | IdentityChanged
    | DeviceRefused
    | DeviceAdded
    | DeviceRemoved
    | HistoryMoved
    | TypingSeen
    | TransparencyAlarm
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
