"""The User actor's rules: one owner, one mailbox, one event at a time.

`handle(event, now)` changes the state in memory and returns effects; the host makes the
durable ones durable before any of the others leaves. If that fails, the host forgets the User
and loads it again: nothing here has to be undone. Times are milliseconds since 1970.

The delivery contract in terms of this module: an id is taken only if it is the next one of its
sending device (`Incoming`), so an inbox holds each message once and in order; an envelope gets
the next number of its device's inbox; it leaves the inbox only when the device acknowledges it
or the retention ends, and then the sender's User is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from hmac import compare_digest
from itertools import pairwise
from typing import Any
from zlib import crc32

from raychat import limits
from raychat.errors import (
    AckAhead,
    BadToken,
    Denied,
    DeviceList,
    IdConflict,
    IdGap,
    IdStale,
    InboxFull,
    NotFound,
    RaychatError,
)
from raychat.ids import AccountId, DeviceId, InboxNumber
from raychat.users.events import (
    Acknowledge,
    Admit,
    Advance,
    Append,
    Attach,
    Box,
    Detach,
    DeviceRecord,
    Dismiss,
    Effect,
    Event,
    Expire,
    Fetch,
    ForgetReceipts,
    Incoming,
    Page,
    PeerRecord,
    Push,
    PutDevice,
    PutPeer,
    PutReceipt,
    ReceiptRecord,
    Register,
    Row,
    Session,
    Tell,
    Told,
    UserRecord,
    Waiting,
)
from raychat.users.ranges import Ranges
from raychat.wire.frames import (
    Close,
    Outcome,
    Refused,
    Welcome,
    pack_envelope,
    pack_receipt,
    pack_refused,
    pack_sent,
    pack_welcome,
)

DIGEST_BYTES = 4

PeerKey = tuple[AccountId, DeviceId]
ReceiptKey = tuple[DeviceId, AccountId, int]


class Peer:
    """One device that sends to this User: its last id and the digests of its latest."""

    __slots__ = ("incarnation", "last", "recent")

    def __init__(self, record: PeerRecord | None) -> None:
        self.incarnation, self.last, self.recent = record or (0, 0, b"")

    def take(self, message: int, digest: bytes) -> None:
        self.last = message
        self.recent = (self.recent + digest)[-DIGEST_BYTES * limits.ID_WINDOW :]

    def digest(self, message: int) -> bytes | None:
        """The digest of an earlier message, None if it is too long ago."""
        end = len(self.recent) - DIGEST_BYTES * (self.last - message)
        return self.recent[end - DIGEST_BYTES : end] if end > 0 else None


class Device:
    """One device of this User. Numbers: cursor ≤ pushed ≤ head.

    `window` holds (number, size, time, sender, device, incarnation, id) of what was pushed and
    not yet acknowledged; it is empty while no connection is there.
    """

    __slots__ = (
        "box",
        "cursor",
        "head",
        "incarnation",
        "pushed",
        "session",
        "token_hash",
        "window",
        "window_bytes",
    )

    def __init__(self, record: DeviceRecord) -> None:
        _, self.box, self.incarnation, self.token_hash, self.cursor, self.head = record
        self.session: Session | None = None
        self.pushed = self.cursor
        self.window: deque[tuple[int, int, int, AccountId, DeviceId, int, int]] | None = None
        self.window_bytes = 0

    def has_room(self) -> bool:
        return self.window is not None and (
            not self.window
            or (
                len(self.window) < limits.PUSH_WINDOW
                and self.window_bytes < limits.PUSH_WINDOW_BYTES
            )
        )

    def leave(self) -> None:
        self.session = None
        self.window = None
        self.window_bytes = 0
        self.pushed = self.cursor


class User:
    """An account's actor. Plain object: no task, lock, queue or timer of its own."""

    __slots__ = ("account", "devices", "peers", "receipts", "revision", "used")

    def __init__(self, record: UserRecord, now: int) -> None:
        self.account = record.account
        self.revision = record.revision
        self.devices = {device.device: Device(device) for device in record.devices}
        self.peers: dict[PeerKey, Peer] | None = None
        self.receipts: dict[ReceiptKey, Ranges] | None = None
        self.used = now

    # -- what must be known before an event can be handled ---------------------------------

    def knows_peer(self, key: PeerKey) -> bool:
        return self.peers is not None and key in self.peers

    def learn_peer(self, key: PeerKey, record: PeerRecord | None) -> None:
        if self.peers is None:
            self.peers = {}
        self.peers[key] = Peer(record)

    def knows_receipts(self, key: ReceiptKey) -> bool:
        return self.receipts is not None and key in self.receipts

    def learn_receipts(self, key: ReceiptKey, record: ReceiptRecord | None) -> None:
        if self.receipts is None:
            self.receipts = {}
        self.receipts[key] = Ranges.unpack(record.ranges) if record else Ranges()

    def is_token(self, device: DeviceId, token_hash: bytes) -> bool:
        known = self.devices.get(device)
        return known is not None and compare_digest(known.token_hash, token_hash)

    def is_idle(self, since: int) -> bool:
        """Whether it can leave memory: nobody connected, nothing happened after `since`."""
        return self.used < since and all(d.session is None for d in self.devices.values())

    def rest(self) -> None:
        """Drop what can be loaded again. For a User that is connected and quiet."""
        self.peers = None
        self.receipts = None

    # -- events ----------------------------------------------------------------------------

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Apply one event at `now` (ms) and return its effects, in the order they count."""
        self.used = now
        match event:
            case Incoming():
                return self._incoming(event, now)
            case Acknowledge():
                return self._acknowledge(event)
            case Told():
                return self._told(event)
            case Page():
                return self._page(event)
            case Attach():
                return self._attach(event, now)
            case Detach():
                return self._detach(event)
            case Register():
                return self._register(event)
            case Expire():
                return self._expire(event)

    def _incoming(self, event: Incoming, now: int) -> list[Effect]:
        _, reply, sender, sending, incarnation, message, parts = event
        assert self.peers is not None
        peer = self.peers[sender, sending]
        if incarnation > peer.incarnation:
            peer.incarnation, peer.last, peer.recent = incarnation, 0, b""
        elif incarnation < peer.incarnation:
            return [self._refuse(event, Denied("This device was registered again elsewhere."))]
        digest = _digest(parts)
        if message != peer.last + 1:
            if message > peer.last:
                return [self._refuse(event, IdGap())]
            known = peer.digest(message)
            if known is None:
                return [self._refuse(event, IdStale())]
            if known != digest:
                return [self._refuse(event, IdConflict())]
            return [Push(reply, pack_sent(self.account, message, now))]
        error = self._cannot_take(parts)
        if error is not None:
            return [self._refuse(event, error)]
        effects: list[Effect] = []
        for number_of_device, _, kind, body in parts:
            device = self.devices[number_of_device]
            number = InboxNumber(device.head + 1)
            frame = pack_envelope(number, sender, sending, incarnation, message, now, kind, body)
            effects.append(Append(device.box, number, frame))
            device.head = number
            if device.session is None:
                effects.append(Waiting(self.account, number_of_device))
            elif device.pushed == number - 1 and device.has_room():
                assert device.window is not None
                device.window.append(
                    (number, len(frame), now, sender, sending, incarnation, message)
                )
                device.window_bytes += len(frame)
                device.pushed = number
                effects.append(Push(device.session, frame))
        peer.take(message, digest)
        effects.append(PutPeer(self.account, sender, sending, incarnation, message, peer.recent))
        effects.append(Push(reply, pack_sent(self.account, message, now)))
        return effects

    def _cannot_take(self, parts: Sequence[Sequence[Any]]) -> RaychatError | None:
        devices = self.devices
        if not devices:
            return NotFound()
        count = len(devices)
        if len(parts) != count or (count > 1 and len({part[0] for part in parts}) != count):
            return DeviceList()
        for number, incarnation, _, _ in parts:
            device = devices.get(number)
            if device is None or device.incarnation != incarnation:
                return DeviceList()
            if device.head - device.cursor >= limits.INBOX_ENVELOPES:
                return InboxFull()
        return None

    def _refuse(self, event: Incoming, error: RaychatError) -> Push:
        refused = Refused(self.account, event.id, error.code, error.detail, error.retryable)
        return Push(event.reply, pack_refused(refused))

    def _acknowledge(self, event: Acknowledge) -> list[Effect]:
        device = self.devices.get(event.device)
        if device is None or device.session != event.session:
            return []  # an older connection of this device; the new one speaks for it
        if event.upto > device.pushed:
            return self._dismiss(device, Close.MALFORMED, AckAhead())
        effects = self._settle(device, event.upto, event.failed)
        if device.pushed < device.head and device.has_room():
            effects.append(self._fetch(event.device, device))
        return effects

    def _settle(self, device: Device, upto: int, failed: Sequence[int]) -> list[Effect]:
        """Let go of everything up to `upto`, and tell the senders of what did not fail."""
        if upto <= device.cursor or device.window is None:
            return []
        device.cursor = InboxNumber(upto)
        window = device.window
        done = []
        times = []
        while window and window[0][0] <= upto:
            number, size, at, *origin = window.popleft()
            device.window_bytes -= size
            if number not in failed:
                done.append(origin)
                times.append(at)
        return [
            Advance(device.box, device.cursor, times),
            *self._tell(done, Outcome.DELIVERED),
        ]

    def _tell(self, origins: Sequence[Sequence[Any]], outcome: Outcome) -> list[Tell]:
        spans: dict[tuple[Any, ...], Ranges] = {}
        for sender, device, incarnation, message in origins:
            spans.setdefault((sender, device, incarnation), Ranges()).add(message, message)
        return [
            Tell(Told(sender, device, incarnation, self.account, outcome, lo, hi))
            for (sender, device, incarnation), ranges in spans.items()
            for lo, hi in ranges
        ]

    def _fetch(self, number: DeviceId, device: Device) -> Fetch:
        assert device.window is not None
        most = limits.PUSH_WINDOW - len(device.window)
        return Fetch(self.account, number, device.box, InboxNumber(device.pushed), most)

    def _page(self, event: Page) -> list[Effect]:
        device = self.devices.get(event.device)
        return self._push_rows(device, event.rows) if device else []

    def _push_rows(self, device: Device, rows: Sequence[Row]) -> list[Effect]:
        effects: list[Effect] = []
        window = device.window
        if device.session is None or window is None:
            return effects
        for number, at, sender, sending, incarnation, message, frame in rows:
            if number != device.pushed + 1 or not device.has_room():
                continue
            window.append((number, len(frame), at, sender, sending, incarnation, message))
            device.window_bytes += len(frame)
            device.pushed = number
            effects.append(Push(device.session, frame))
        return effects

    def _told(self, event: Told) -> list[Effect]:
        _, number, incarnation, peer, outcome, lo, hi = event
        device = self.devices.get(number)
        if device is None or device.incarnation != incarnation:
            return []  # news for a device that has been registered anew since
        assert self.receipts is not None
        ranges = self.receipts[number, peer, outcome]
        if not ranges.add(lo, hi):
            return []
        self.revision += 1
        effects: list[Effect] = [
            PutReceipt(self.account, number, peer, outcome, self.revision, ranges.pack())
        ]
        if device.session is not None:
            frame = pack_receipt(self.revision, peer, outcome, (lo, hi))
            effects.append(Push(device.session, frame, self.revision))
        return effects

    def _attach(self, event: Attach, now: int) -> list[Effect]:
        session = event.session
        device = self.devices.get(event.device)
        if device is None or not self.is_token(event.device, event.token_hash):
            error = BadToken()
            return [Dismiss(session, Close.BAD_TOKEN, error.code, error.detail)]
        effects: list[Effect] = []
        old = device.session
        if old is not None and old != session:
            detail = "This device has connected elsewhere."
            # Which of two old connections is the newer one nobody knows any more: the one that
            # is alive comes back, and then it is.
            close = Close.GOING_AWAY if event.again else Close.REPLACED
            effects.append(Dismiss(old, close, "replaced", detail))
        device.leave()
        device.session = session
        device.window = deque()
        if event.seen > device.head:
            return effects + self._dismiss(device, Close.MALFORMED, AckAhead())
        # Put the window back as it was, so that `seen` settles what an ack lost on the way
        # would have settled; only what comes after `seen` is pushed again.
        window = self._push_rows(device, event.waiting)
        effects += self._settle(device, event.seen, event.failed)
        device.pushed = InboxNumber(max(device.pushed, device.cursor))
        welcome = Welcome(1, now, device.incarnation, device.cursor, device.head, self.revision)
        effects.append(Admit(session, device.incarnation, pack_welcome(welcome)))
        effects += window[len(window) - len(device.window) :]
        for _, peer, outcome, revision, ranges in event.receipts:
            frame = pack_receipt(revision, peer, outcome, Ranges.unpack(ranges).flat)
            effects.append(Push(session, frame, revision))
        if device.pushed < device.head and device.has_room():
            effects.append(self._fetch(event.device, device))
        return effects

    def _detach(self, event: Detach) -> list[Effect]:
        device = self.devices.get(event.device)
        if device is not None and device.session == event.session:
            device.leave()
        return []

    def _dismiss(self, device: Device, close: Close, error: RaychatError) -> list[Effect]:
        session = device.session
        assert session is not None
        device.leave()
        return [Dismiss(session, close, error.code, error.detail)]

    def _register(self, event: Register) -> list[Effect]:
        _, number, token_hash = event
        known = self.devices.get(number)
        effects: list[Effect] = []
        if known is None:
            # The store names the box of a new inbox; the host loads the User again with it.
            return [PutDevice(self.account, number, 1, token_hash)]
        if known.session is not None:
            effects += self._dismiss(known, Close.BAD_TOKEN, BadToken())
        known.incarnation += 1
        known.token_hash = token_hash
        self.receipts = None
        return [
            *effects,
            PutDevice(self.account, number, known.incarnation, token_hash),
            ForgetReceipts(self.account, number),
        ]

    def _expire(self, event: Expire) -> list[Effect]:
        device = self.devices.get(event.device)
        rows = [row for row in event.rows if device and row.number > device.cursor]
        if device is None or not rows or rows[0].number != device.cursor + 1:
            return []
        assert all(b.number == a.number + 1 for a, b in pairwise(rows))
        device.cursor = rows[-1].number
        window = device.window
        while window and window[0][0] <= device.cursor:
            device.window_bytes -= window.popleft()[1]
        device.pushed = InboxNumber(max(device.pushed, device.cursor))
        origins = [(row.sender, row.device, row.incarnation, row.id) for row in rows]
        return [Advance(device.box, device.cursor, ()), *self._tell(origins, Outcome.EXPIRED)]


def _digest(parts: Sequence[Sequence[Any]]) -> bytes:
    """What tells a message from another one with the same id. It guards against mistakes of the
    sender's device, who can only cheat itself: a checksum is enough."""
    checksum = 0
    for device, incarnation, kind, body in parts:
        checksum = crc32(body, checksum ^ (incarnation << 16 ^ kind << 8 ^ device) & 0xFFFFFFFF)
    return checksum.to_bytes(DIGEST_BYTES, "big")


__all__ = ["Box", "Device", "Peer", "User"]
