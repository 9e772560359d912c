"""What can happen to a User, and what a User may ask for: its whole interface.

Events come in through `User.handle`, effects come out. An effect is either *durable* (it
belongs to the store transaction of the turn) or *outward* (it may leave the process only after
that transaction has been committed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId
from raychat.wire.frames import Close, Outcome

Box = int
"""What the store calls one device's inbox; opaque to the rules."""


Ticket = Callable[[Any], None]
"""Who waits for an answer: called with what came of it, or with the error."""


class Session(NamedTuple):
    """Where a connection is: a link to its gateway, and its number there."""

    link: Any
    number: int


# -- records: a User as the store keeps it -------------------------------------------------


class DeviceRecord(NamedTuple):
    """A device. One that was removed has an empty token hash: its number may be used again, and
    then counts on. `next_hash` is that of a token which has not been used yet, `seen` the last day
    (since 1970) on which it connected."""

    device: DeviceId
    box: Box
    incarnation: int
    token_hash: bytes
    cursor: InboxNumber
    head: InboxNumber
    next_hash: bytes = b""
    seen: int = 0


class UserRecord(NamedTuple):
    """An account. `list_version` and `list_key` are those of its signed device list (0 and empty
    if it has none), `list_digest` is its SHA-256; `blocked` are accounts one after another."""

    account: AccountId
    revision: int
    devices: Sequence[DeviceRecord]
    list_version: int = 0
    list_key: bytes = b""
    list_digest: bytes = b""
    blocked: bytes = b""


class ListRecord(NamedTuple):
    """A signed device list whose signature has been checked: the account key that signed it, the
    devices it names, and its bytes."""

    version: int
    key: bytes
    devices: Sequence[DeviceId]
    data: bytes


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
    """A device is registered (again): it gets a new token, incarnation and keys, and the account
    the device list that names it; devices that are not in the list are removed. `box` is for the
    inbox of a number that was never used. Answered with the incarnation."""

    account: AccountId
    device: DeviceId
    token_hash: bytes
    list: ListRecord
    keys: Any
    box: Box
    ticket: Ticket


class NewList(NamedTuple):
    """The primary has signed a newer list: devices that are not in it are removed."""

    account: AccountId
    list: ListRecord
    ticket: Ticket


class Remove(NamedTuple):
    """A linked device is removed: it wants to leave, or it was not there since before day
    `unseen` (since 1970)."""

    account: AccountId
    device: DeviceId
    ticket: Ticket | None = None
    unseen: int | None = None


class Rotate(NamedTuple):
    """A device gets a new token; the old one works until the new one is used."""

    account: AccountId
    device: DeviceId
    token_hash: bytes
    ticket: Ticket


class UseToken(NamedTuple):
    """A device shows a token beside its connection. Answered with BadToken if it is not one."""

    account: AccountId
    device: DeviceId
    token_hash: bytes
    ticket: Ticket


class Block(NamedTuple):
    """From now on just these accounts' messages are dropped, without their being told."""

    account: AccountId
    blocked: Sequence[AccountId]
    ticket: Ticket


class Delete(NamedTuple):
    """The account is no more: all that is left is how often each device was registered."""

    account: AccountId
    ticket: Ticket


class Attach(NamedTuple):
    """A connection claims to be a device. `waiting` is its inbox after the cursor, at most a
    push window; `receipts` are those newer than `revision`, of all devices. `again`: the
    connection is an old one, of before this host was started; there may be a newer one."""

    account: AccountId
    session: Session
    device: DeviceId
    token_hash: bytes
    seen: InboxNumber
    untold: Sequence[int]
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
    """The device of `session` has dealt with everything up to `upto`; the senders of `untold`
    are not told."""

    account: AccountId
    session: Session
    device: DeviceId
    upto: InboxNumber
    untold: Sequence[int]


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


Request = Register | NewList | Remove | Rotate | UseToken | Block | Delete
Event = Attach | Detach | Incoming | Acknowledge | Told | Page | Expire | Request


# -- effects -------------------------------------------------------------------------------


class PutDevice(NamedTuple):
    """Durable: a device as in `DeviceRecord`. `box` names the inbox of one that is new (None: the
    store does), and is not looked at for others."""

    account: AccountId
    device: DeviceId
    incarnation: int
    token_hash: bytes
    box: Box | None = None
    next_hash: bytes = b""
    seen: int = 0


class PutKeys(NamedTuple):
    """Durable: the public keys of a device, in the place of all it had. None: it has none."""

    account: AccountId
    device: DeviceId
    keys: Any


class PutList(NamedTuple):
    """Durable: the account's signed device list."""

    account: AccountId
    version: int
    key: bytes
    data: bytes


class PutBlocked(NamedTuple):
    """Durable: the accounts this one has blocked, one after another."""

    account: AccountId
    blocked: bytes


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
    """Durable: a device starts anew, its receipts go. `revision` was given to one of them."""

    account: AccountId
    device: DeviceId
    revision: int


class ForgetAccount(NamedTuple):
    """Durable: the list, the blocks, the receipts and the peers of an account go."""

    account: AccountId
    revision: int


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


class Answer(NamedTuple):
    """Outward: whoever asked gets the result, or the error."""

    ticket: Ticket
    result: Any


class Waiting(NamedTuple):
    """Outward: something waits for a device that is not connected (push hint)."""

    account: AccountId
    device: DeviceId


Durable = (
    Append
    | Advance
    | PutPeer
    | PutReceipt
    | PutDevice
    | PutKeys
    | PutList
    | PutBlocked
    | ForgetReceipts
    | ForgetAccount
)
Effect = Durable | Tell | Push | Admit | Dismiss | Fetch | Answer | Waiting
