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
from raychat.users.device import DIGEST_BYTES, Device, Peer
from raychat.users.events import (
    Acknowledge,
    Admit,
    Advance,
    Append,
    Attach,
    Detach,
    Dismiss,
    Effect,
    Event,
    Expire,
    Fetch,
    Incoming,
    Page,
    PeerRecord,
    Push,
    PutPeer,
    PutReceipt,
    ReceiptRecord,
    Row,
    Tell,
    Told,
    UserRecord,
    Waiting,
)
from raychat.users.ranges import Ranges
from raychat.users.registry import DAY_MS, Registry
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

PeerKey = tuple[AccountId, DeviceId]
ReceiptKey = tuple[DeviceId, AccountId, int]


class User(Registry):
    """An account's actor. Plain object: no task, lock, queue or timer of its own."""

    __slots__ = ("peers", "receipts", "used")

    def __init__(self, record: UserRecord, now: int) -> None:
        super().__init__(record)
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
            case Expire():
                return self._expire(event)
            case _:
                return self.request(event, now)

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
        error = self._cannot_take(event)
        if error is not None:
            return [self._refuse(event, error)]
        effects: list[Effect] = []
        if self.blocked is not None and sender in self.blocked:
            parts = ()  # who is blocked does not get to know it
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

    def _cannot_take(self, event: Incoming) -> RaychatError | None:
        devices = self.devices
        if not devices:
            return NotFound()
        if event.sender == self.account:
            sending = devices.get(event.device)
            if sending is None or sending.incarnation != event.incarnation:
                return Denied("This device is no longer one of its account.")
            devices = self._receivers(event)
        parts = event.parts
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

    def _receivers(self, event: Incoming) -> dict[DeviceId, Device]:
        """The devices a message has to be addressed to: all but the one that sends it."""
        if event.sender != self.account:
            return self.devices
        return {n: device for n, device in self.devices.items() if n != event.device}

    def _refuse(self, event: Incoming, error: RaychatError) -> Push:
        refused = Refused(self.account, event.id, error.code, error.detail, error.retryable)
        if type(error) is DeviceList:
            receivers = sorted(self._receivers(event).items())
            refused = refused._replace(
                devices=[(number, device.incarnation) for number, device in receivers],
                list_version=self.list_version,
            )
        return Push(event.reply, pack_refused(refused))

    def _acknowledge(self, event: Acknowledge) -> list[Effect]:
        device = self.devices.get(event.device)
        if device is None or device.session != event.session:
            return []  # an older connection of this device; the new one speaks for it
        if event.upto > device.pushed:
            return self._dismiss(device, Close.MALFORMED, AckAhead())
        effects = self._settle(device, event.upto, event.untold)
        if device.pushed < device.head and device.has_room():
            effects.append(self._fetch(event.device, device))
        return effects

    def _settle(self, device: Device, upto: int, untold: Sequence[int]) -> list[Effect]:
        """Let go of everything up to `upto`, and tell the senders but those of `untold`."""
        if upto <= device.cursor or device.window is None:
            return []
        device.cursor = InboxNumber(upto)
        window = device.window
        silent = frozenset(untold) if untold else ()
        done = []
        times = []
        while window and window[0][0] <= upto:
            number, size, at, *origin = window.popleft()
            device.window_bytes -= size
            if number not in silent:
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
        # A device that was removed still has its messages shown by the others.
        if not self.devices or self.incarnation(number) != incarnation:
            return []  # news for a device that has been registered anew since
        assert self.receipts is not None
        ranges = self.receipts[number, peer, outcome]
        if not ranges.add(lo, hi):
            return []
        self.revision += 1
        effects: list[Effect] = [
            PutReceipt(self.account, number, peer, outcome, self.revision, ranges.pack())
        ]
        frame: bytes | None = None
        for device in self.devices.values():
            if device.session is not None:
                if frame is None:
                    news = (self.revision, peer, outcome, (lo, hi), number, incarnation)
                    frame = pack_receipt(*news)
                effects.append(Push(device.session, frame, self.revision))
        return effects

    def _attach(self, event: Attach, now: int) -> list[Effect]:
        session = event.session
        device = self.devices.get(event.device)
        if device is None or not self.is_token(event.device, event.token_hash):
            if event.again:  # it may have a newer token, of which this connection knows nothing
                return [Dismiss(session, Close.GOING_AWAY, "unavailable", "Connect again.")]
            error = BadToken()
            return [Dismiss(session, Close.BAD_TOKEN, error.code, error.detail)]
        effects = self._settle_token(event.device, event.token_hash)
        if device.seen != now // DAY_MS:
            device.seen = now // DAY_MS
            effects.append(device.put(self.account, event.device))
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
        effects += self._settle(device, event.seen, event.untold)
        device.pushed = InboxNumber(max(device.pushed, device.cursor))
        inbox = (device.incarnation, device.cursor, device.head)
        welcome = Welcome(1, now, *inbox, self.revision, self.list_version)
        effects.append(Admit(session, device.incarnation, pack_welcome(welcome)))
        effects += window[len(window) - len(device.window) :]
        for number, peer, outcome, revision, packed in event.receipts:
            ranges = Ranges.unpack(packed).flat
            whose = (number, self.incarnation(number))
            frame = pack_receipt(revision, peer, outcome, ranges, *whose)
            effects.append(Push(session, frame, revision))
        if device.pushed < device.head and device.has_room():
            effects.append(self._fetch(event.device, device))
        return effects

    def _detach(self, event: Detach) -> list[Effect]:
        device = self.devices.get(event.device)
        if device is not None and device.session == event.session:
            device.leave()
        return []

    def _forget_receipts(self, device: DeviceId) -> None:
        for key, ranges in (self.receipts or {}).items():
            if key[0] == device:
                ranges.flat = []

    def _forget_account(self) -> None:
        # What other events of this turn count on being loaded stays, as if it were new.
        self.receipts = {key: Ranges() for key in self.receipts} if self.receipts else None
        self.peers = {key: Peer(None) for key in self.peers} if self.peers else None

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


__all__ = ["Device", "Peer", "User"]
