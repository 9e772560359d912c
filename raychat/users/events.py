"""What can happen to a User, and what a User may ask for: its whole interface.

Events come in through `User.handle`, effects come out. An effect is either *durable* (it
belongs to the store transaction of the turn) or *outward* (it may leave the process only after
that transaction has been committed).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId
from raychat.wire.frames import Close, Outcome

Box = int
"""What the store calls one device's inbox; opaque to the rules."""


class Session(NamedTuple):
    """Where a connection is: a link to its gateway, and its number there."""

    link: Any
    number: int


# -- records: a User as the store keeps it -------------------------------------------------


class DeviceRecord(NamedTuple):
    device: DeviceId
    box: Box
    incarnation: int
    token_hash: bytes
    cursor: InboxNumber
    head: InboxNumber


class UserRecord(NamedTuple):
    account: AccountId
    revision: int
    devices: Sequence[DeviceRecord]


class Row(NamedTuple):
    """One envelope of an inbox. `frame` is the bytes the device gets."""

    number: InboxNumber
    at: int
    sender: AccountId
    device: DeviceId
    incarnation: int
    id: MessageId
    frame: bytes


class PeerRecord(NamedTuple):
    """How far one sending device has come: its last id, and digests of the latest."""

    incarnation: int
    last: int
    recent: bytes


class ReceiptRecord(NamedTuple):
    device: DeviceId
    peer: AccountId
    outcome: int
    revision: int
    ranges: bytes


# -- events --------------------------------------------------------------------------------


class Register(NamedTuple):
    """A device is registered (again): it gets a new token and a new incarnation."""

    account: AccountId
    device: DeviceId
    token_hash: bytes


class Attach(NamedTuple):
    """A connection claims to be a device. `waiting` is its inbox after the cursor, at most a
    push window; `receipts` are those newer than `revision`. `again`: the connection is an old
    one, of before this host was started; there may be a newer one."""

    account: AccountId
    session: Session
    device: DeviceId
    token_hash: bytes
    seen: InboxNumber
    failed: Sequence[int]
    revision: int
    waiting: Sequence[Row]
    receipts: Sequence[ReceiptRecord]
    again: bool = False


class Detach(NamedTuple):
    """A connection is gone."""

    account: AccountId
    session: Session
    device: DeviceId


class Incoming(NamedTuple):
    """A message from another device. `reply` is the sender's session."""

    account: AccountId
    reply: Session
    sender: AccountId
    device: DeviceId
    incarnation: int
    id: MessageId
    parts: Sequence[Sequence[Any]]


class Acknowledge(NamedTuple):
    """The device of `session` keeps everything up to `upto`; `failed` it could not open."""

    account: AccountId
    session: Session
    device: DeviceId
    upto: InboxNumber
    failed: Sequence[int]


class Told(NamedTuple):
    """News of messages `lo..hi` that a device of this account sent to `peer`."""

    account: AccountId
    device: DeviceId
    incarnation: int
    peer: AccountId
    outcome: Outcome
    lo: int
    hi: int

    def receipt_key(self) -> tuple[DeviceId, AccountId, int]:
        return self.device, self.peer, self.outcome


class Page(NamedTuple):
    """The next waiting envelopes of a device, as asked for by `Fetch`."""

    account: AccountId
    device: DeviceId
    rows: Sequence[Row]


class Expire(NamedTuple):
    """These oldest envelopes of an inbox have outlived the retention."""

    account: AccountId
    device: DeviceId
    rows: Sequence[Row]


Event = Register | Attach | Detach | Incoming | Acknowledge | Told | Page | Expire


# -- effects -------------------------------------------------------------------------------


class PutDevice(NamedTuple):
    """Durable: a device with a new token and incarnation."""

    account: AccountId
    device: DeviceId
    incarnation: int
    token_hash: bytes


class Append(NamedTuple):
    """Durable: one envelope at the end of an inbox, as the frame its device will get."""

    box: Box
    number: InboxNumber
    frame: bytes


class Advance(NamedTuple):
    """Durable: everything up to `cursor` leaves the inbox. `times` (ms) is when those that
    were delivered had been taken."""

    box: Box
    cursor: InboxNumber
    times: Sequence[int]


class PutPeer(NamedTuple):
    """Durable: how far a sending device has come."""

    account: AccountId
    sender: AccountId
    device: DeviceId
    incarnation: int
    last: int
    recent: bytes


class PutReceipt(NamedTuple):
    """Durable: what became of a device's messages to a peer."""

    account: AccountId
    device: DeviceId
    peer: AccountId
    outcome: int
    revision: int
    ranges: bytes


class ForgetReceipts(NamedTuple):
    """Durable: a device starts anew, its receipts go."""

    account: AccountId
    device: DeviceId


class Tell(NamedTuple):
    """Durable and outward: `told` must reach its account at least once, whatever crashes."""

    told: Told


class Push(NamedTuple):
    """Outward: a frame for a connection. `revision` is that of a receipt, else 0."""

    session: Session
    frame: bytes
    revision: int = 0


class Admit(NamedTuple):
    """Outward: a connection is who it claims to be; `frame` is its welcome."""

    session: Session
    incarnation: int
    frame: bytes


class Dismiss(NamedTuple):
    """Outward: a connection must end, for this reason."""

    session: Session
    close: Close
    code: str
    detail: str


class Fetch(NamedTuple):
    """Outward: read the inbox after `after`, and come back with a `Page`."""

    account: AccountId
    device: DeviceId
    box: Box
    after: InboxNumber
    most: int


class Waiting(NamedTuple):
    """Outward: something waits for a device that is not connected (push hint)."""

    account: AccountId
    device: DeviceId


Durable = PutDevice | Append | Advance | PutPeer | PutReceipt | ForgetReceipts
Effect = Durable | Tell | Push | Admit | Dismiss | Fetch | Waiting
