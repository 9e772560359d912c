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
from raychat.ids import AccountId, DeviceId, PhoneNumber, Secret
from raychat.wire.content import Content, Setting
from raychat.wire.frames import ToDevice


class DeviceBundle(NamedTuple):
    """What the key server hands out to start a session with one device of an account.

    `signature` is a linked device's word that it belongs to the account; None for the primary.
    """

    device: DeviceId
    incarnation: int
    bundle: PreKeyBundle
    signature: bytes | None = None


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
    """The person says `content` to `peer`. The answer is the message it is shown as, or None."""

    ticket: Any
    peer: PhoneNumber | AccountId
    content: Content


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


class Choose(NamedTuple):
    """The person has made settings, of conversations or of their own."""

    ticket: Any
    settings: Sequence[Setting]


class NewToken(NamedTuple):
    """The server has given this device another token; both work until it is first used."""

    ticket: Any
    token: Secret


class KeysFound(NamedTuple):
    """Answer to WantKeys: the account's signed list, and a bundle of each device that was asked
    for (`asked` None: of all)."""

    account: AccountId
    list: bytes | None
    devices: Sequence[DeviceBundle]
    asked: tuple[DeviceId, ...] | None = None


class KeysNotFound(NamedTuple):
    """Answer to WantKeys: why there are none."""

    account: AccountId
    error: RaychatError


class DevicesFound(NamedTuple):
    """Answer to WantDevices: the account's signed list, and the devices the server has."""

    account: AccountId
    list: bytes | None
    devices: Sequence[tuple[DeviceId, int]]


class DevicesNotFound(NamedTuple):
    """Answer to WantDevices: why they are not known."""

    account: AccountId
    error: RaychatError


class BlocksKept(NamedTuple):
    """Answer to PublishBlocks: the server keeps them."""

    accounts: frozenset[AccountId]


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
    | Choose
    | NewToken
    | KeysFound
    | KeysNotFound
    | DevicesFound
    | DevicesNotFound
    | BlocksKept
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
    """Fetch the keys of an account's devices (None: of all of them); come back with KeysFound or
    KeysNotFound, whatever happens."""

    account: AccountId
    devices: tuple[DeviceId, ...] | None = None


class WantDevices(NamedTuple):
    """Fetch an account's signed list; come back with DevicesFound or DevicesNotFound, whatever
    happens."""

    account: AccountId


class PublishList(NamedTuple):
    """Give the server the own list, newly signed. If that fails, the next connection shows it."""

    list: bytes


class PublishBlocks(NamedTuple):
    """Tell the server whose messages it is to drop; come back with BlocksKept if it does."""

    accounts: frozenset[AccountId]


class Reconnect(NamedTuple):
    """Close the connection and come back after a random pause between the two (ms)."""

    min_ms: int
    max_ms: int


class Stop(NamedTuple):
    """Close the connection, if there is one, and do not come back."""

    error: RaychatError


Effect = (
    Greet
    | Transmit
    | Tell
    | Answer
    | WantAccount
    | WantKeys
    | WantDevices
    | PublishList
    | PublishBlocks
    | Reconnect
    | Stop
)
