"""What can happen to an engine, and what it may ask for: its whole interface.

Inputs go in through `Engine.turn`, which makes them last; effects come out and are carried out
only after that. Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raychat.client.events import Event
from raychat.crypto import PreKeyBundle
from raychat.errors import RaychatError
from raychat.ids import AccountId, DeviceId, PhoneNumber
from raychat.wire.frames import ToDevice


class DeviceBundle(NamedTuple):
    """What the key server hands out to start a session with one device of an account."""

    device: DeviceId
    incarnation: int
    bundle: PreKeyBundle


# -- inputs --------------------------------------------------------------------------------


class Opened(NamedTuple):
    """There is a connection; nothing has been said on it."""


class Arrived(NamedTuple):
    """Frames of the server, in order."""

    frames: Sequence[ToDevice]


class Lost(NamedTuple):
    """The connection is gone. `close` is the WebSocket's close code, if there was one."""

    close: int | None
    error: RaychatError


class Compose(NamedTuple):
    """Someone wrote `text` to `peer`. `content` is its encoded form."""

    ticket: Any
    peer: PhoneNumber | AccountId
    text: str
    content: bytes


class MarkRead(NamedTuple):
    """Someone has read a conversation up to the message `upto` (a key; None: all of it)."""

    ticket: Any
    conversation: int
    upto: int | None


class AccountFound(NamedTuple):
    """Answer to WantAccount: whose number it is."""

    number: PhoneNumber
    account: AccountId


class AccountNotFound(NamedTuple):
    """Answer to WantAccount: why it is not known."""

    number: PhoneNumber
    error: RaychatError


class KeysFound(NamedTuple):
    """Answer to WantKeys: every device of the account."""

    account: AccountId
    devices: Sequence[DeviceBundle]


class KeysNotFound(NamedTuple):
    """Answer to WantKeys: why there are none."""

    account: AccountId
    error: RaychatError


class Tick(NamedTuple):
    """Time has passed."""


Input = (
    Opened
    | Arrived
    | Lost
    | Compose
    | MarkRead
    | AccountFound
    | AccountNotFound
    | KeysFound
    | KeysNotFound
    | Tick
)

# -- effects -------------------------------------------------------------------------------


class Greet(NamedTuple):
    """Send the first frame of a connection."""

    frame: bytes


class Transmit(NamedTuple):
    """Send a frame on the connection, if it is still the one that was greeted on."""

    frame: bytes


class Tell(NamedTuple):
    """Let the user know."""

    event: Event


class Answer(NamedTuple):
    """The outcome of the input with this ticket; it is durable."""

    ticket: Any
    result: Any


class WantAccount(NamedTuple):
    """Look a number up; come back with AccountFound or AccountNotFound, whatever happens."""

    number: PhoneNumber


class WantKeys(NamedTuple):
    """Fetch an account's keys; come back with KeysFound or KeysNotFound, whatever happens."""

    account: AccountId


class Reconnect(NamedTuple):
    """Close the connection and come back after a random pause between the two (ms)."""

    min_ms: int
    max_ms: int


class Stop(NamedTuple):
    """Close the connection, if there is one, and do not come back."""

    error: RaychatError


Effect = Greet | Transmit | Tell | Answer | WantAccount | WantKeys | Reconnect | Stop
