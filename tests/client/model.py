"""A model server, written from PROTOCOL.md alone: its sections 3 and 4, as plainly as possible.

It speaks in packed frames and has accounts of several devices. Nothing moves by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from raychat import limits
from raychat.client.signals import DeviceBundle
from raychat.crypto import PreKeyBundle
from raychat.crypto.device_list import DeviceList as SignedList
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import (
    DeviceList,
    IdConflict,
    IdGap,
    IdStale,
    ListStale,
    NotFound,
    RateLimited,
    RaychatError,
    Unavailable,
)
from raychat.ids import AccountId, DeviceId, InboxNumber, PhoneNumber, Secret
from raychat.wire import frames
from raychat.wire.frames import Goodbye, Outcome, Part, Refused, Welcome

NOW = 1_700_000_000_000
ONE = DeviceId(1)
Sender = tuple[AccountId, int, int]
"""Account, device and incarnation."""


@dataclass
class Stored:
    """An envelope in an inbox."""

    number: int
    to: AccountId
    sender: Sender
    id: int
    kind: int
    body: bytes


@dataclass
class ServedDevice:
    """One device of an account."""

    device: DeviceId
    token: Secret
    incarnation: int
    head: int = 0
    cursor: int = 0
    inbox: deque[Stored] = field(default_factory=deque)
    bundle: PreKeyBundle | None = None
    signature: bytes | None = None
    tokens: list[Secret] = field(default_factory=list)
    """Those that work: its own, and the next one until that is used."""
    out: deque[bytes] | None = None
    """Frames for it; None while it is not connected."""


@dataclass
class ServedUser:
    """One account."""

    account: AccountId
    number: PhoneNumber
    devices: dict[int, ServedDevice] = field(default_factory=dict)
    incarnations: dict[int, int] = field(default_factory=dict)
    signed: bytes | None = None
    taken: dict[Sender, list[tuple[dict[int, int], object]]] = field(default_factory=dict)
    """What was taken of each sending device: for which devices (with their incarnations), and
    the parts."""
    receipts: list[tuple[AccountId, int, int, int, int]] = field(default_factory=list)
    """(peer, outcome, id, device, incarnation); the place is the revision."""
    blocked: frozenset[AccountId] = frozenset()
    ghosts: dict[int, int] = field(default_factory=dict)
    """Devices that the server only pretends there are, with their incarnations."""

    @property
    def version(self) -> int:
        return self.listed.version if self.signed else 0

    @property
    def listed(self) -> SignedList:
        assert self.signed is not None
        return SignedDeviceList.parse(self.signed).unverified

    def addressed(self, but: int | None) -> dict[int, int]:
        """The devices a message is to be addressed to, with their incarnations."""
        there = {number: device.incarnation for number, device in self.devices.items()}
        return {n: i for n, i in (there | self.ghosts).items() if n != but}


class Server:
    """All accounts, and what happens to what they send."""

    def __init__(self) -> None:
        self.users: dict[AccountId, ServedUser] = {}
        self.accounts = 0
        """How many there have ever been."""
        self.now = NOW
        self.refusals: deque[RaychatError] = deque()
        """Errors for the next messages. A recipient's are of messages not taken yet."""

    # -- devices ---------------------------------------------------------------------------

    def user(self, number: str) -> ServedUser:
        """The account of a number, made if there is none."""
        for user in self.users.values():
            if user.number == number:
                return user
        self.accounts += 1
        account = AccountId(bytes([self.accounts]) * 16)
        user = self.users[account] = ServedUser(account, PhoneNumber(number))
        return user

    def register(self, user: ServedUser, device: int, listed: bytes) -> ServedDevice:
        """A device has registered, with the list it is in."""
        new, old = SignedDeviceList.parse(listed), user.signed
        same_key = old is not None and new.account_key == user.listed.account_key
        if same_key and listed != old and new.unverified.version <= user.version:
            raise ListStale
        user.signed = listed
        incarnation = user.incarnations.get(device, 0) + 1
        user.incarnations[device] = incarnation
        known = user.devices.get(device)
        if known is not None:
            self._dismiss(known)
        token = Secret(bytes([device, incarnation]) * 16)
        served = ServedDevice(DeviceId(device), token, incarnation, tokens=[token])
        if known is not None:
            served.head, served.cursor, served.inbox = known.head, known.cursor, known.inbox
        user.devices[device] = served
        if incarnation > 1:
            user.receipts = [
                (receipt[0], -1, *receipt[2:]) if receipt[3] == device else receipt
                for receipt in user.receipts
            ]
        self._drop(user, [n for n in user.devices if n not in new.unverified.numbers()])
        self._announce(user)
        return served

    def put_list(self, user: ServedUser, listed: bytes) -> None:
        new = SignedDeviceList.parse(listed).unverified
        if new.version <= user.version or not set(new.numbers()) <= set(user.devices):
            raise ListStale
        user.signed = listed
        self._drop(user, [n for n in user.devices if n not in new.numbers()])
        self._announce(user)

    def leave(self, user: ServedUser, device: int) -> None:
        """A linked device takes itself out."""
        self._drop(user, [device])
        self._announce(user)

    def _drop(self, user: ServedUser, devices: list[int]) -> None:
        for number in devices:
            self._dismiss(user.devices.pop(number))

    def _dismiss(self, device: ServedDevice) -> None:
        if device.out is not None:
            device.out.append(frames.pack_goodbye(Goodbye("bad-token", "no", 0, 0)))
            device.out = None

    def _announce(self, user: ServedUser) -> None:
        for device in user.devices.values():
            if device.out is not None:
                device.out.append(frames.pack_devices(user.version))

    def bundles(self, account: AccountId, some: tuple[int, ...] | None) -> list[DeviceBundle]:
        return [
            DeviceBundle(each.device, each.incarnation, each.bundle, each.signature)
            for number, each in self.users[account].devices.items()
            if each.bundle is not None and (some is None or number in some)
        ]

    # -- frames ----------------------------------------------------------------------------

    def hello(self, frame: frames.Hello, out: deque[bytes]) -> None:
        user = self.users[frame.account]
        device = user.devices.get(frame.device)
        if device is None or frame.token not in device.tokens:
            out.append(frames.pack_goodbye(Goodbye("bad-token", "no", 0, 0)))
            return
        device.token = frame.token
        device.tokens = device.tokens[device.tokens.index(frame.token) :]
        assert frame.seen <= device.head, "seen is ahead of the inbox"
        device.out = out
        self.settle(user, device, frame.seen, frame.untold)
        out.append(
            frames.pack_welcome(
                Welcome(
                    1,
                    self.now,
                    device.incarnation,
                    InboxNumber(device.cursor),
                    InboxNumber(device.head),
                    len(user.receipts),
                    user.version,
                )
            )
        )
        for stored in device.inbox:
            out.append(self.envelope(stored))
        for packed in self._receipts(user, frame.revision):
            out.append(packed)

    def _receipts(self, user: ServedUser, after: int) -> Iterator[bytes]:
        for place, (peer, outcome, id_, device, incarnation) in enumerate(user.receipts):
            if place >= after and outcome >= 0:
                ends = (id_, id_)
                yield frames.pack_receipt(place + 1, peer, outcome, ends, device, incarnation)

    def envelope(self, stored: Stored) -> bytes:
        at = self.now
        return frames.pack_envelope(
            stored.number, *stored.sender, stored.id, at, stored.kind, stored.body
        )

    def settle(self, user: ServedUser, device: ServedDevice, upto: int, untold: object) -> None:
        assert upto <= device.head, "ack-ahead"
        while device.inbox and device.inbox[0].number <= upto:
            stored = device.inbox.popleft()
            device.cursor = stored.number
            if stored.number not in untold:  # type: ignore[operator]
                self.tell(stored, Outcome.DELIVERED)

    def tell(self, stored: Stored, outcome: Outcome) -> None:
        account, device, incarnation = stored.sender
        sender = self.users.get(account)
        if sender is None or sender.incarnations.get(device) != incarnation:
            return
        receipt = (stored.to, int(outcome), stored.id, device, incarnation)
        if receipt in sender.receipts:
            return
        sender.receipts.append(receipt)
        (packed,) = self._receipts(sender, len(sender.receipts) - 1)
        for each in sender.devices.values():
            if each.out is not None:
                each.out.append(packed)

    def frame(self, account: AccountId, device: int, raw: list[object]) -> None:
        user = self.users[account]
        served = user.devices.get(device)
        if served is None or served.out is None:
            return  # it was dismissed meanwhile
        frame = frames.to_server(raw)
        if isinstance(frame, frames.Ack):
            self.settle(user, served, frame.upto, frame.untold)
        elif isinstance(frame, frames.Send):
            self.send(user, served, frame)

    def send(self, sender: ServedUser, device: ServedDevice, frame: frames.Send) -> None:
        assert device.out is not None
        error = self.take(sender, device, frame)
        if error is None:
            device.out.append(frames.pack_sent(frame.to, frame.id, self.now))
            return
        listed: list[tuple[DeviceId, int]] = []
        version = 0
        if isinstance(error, DeviceList):
            to = self.users[frame.to]
            but = device.device if to is sender else None
            listed = [(DeviceId(n), i) for n, i in to.addressed(but).items()]
            version = to.version
        refused = Refused(
            frame.to, frame.id, error.code, error.detail, error.retryable, listed, version
        )
        device.out.append(frames.pack_refused(refused))

    def take(
        self, sender: ServedUser, device: ServedDevice, frame: frames.Send
    ) -> RaychatError | None:
        if self.refusals and type(self.refusals[0]) in (Unavailable, RateLimited):
            return self.refusals.popleft()  # the edge's, which does not know what is taken
        user = self.users.get(frame.to)
        if user is None:
            return NotFound()
        name = (sender.account, int(device.device), device.incarnation)
        taken = user.taken.setdefault(name, [])
        if frame.id > len(taken) + 1:
            return IdGap()
        if frame.id <= len(taken):
            if frame.id <= len(taken) - limits.ID_WINDOW:
                return IdStale()
            return None if taken[frame.id - 1][1] == frame.parts else IdConflict()
        if self.refusals:
            return self.refusals.popleft()
        addressed = user.addressed(device.device if user is sender else None)
        parts = [Part(*part) for part in frame.parts]
        given = {part.device: part.incarnation for part in parts}
        if given != addressed or not given or len(parts) != len(given):
            return DeviceList()
        taken.append((given, frame.parts))
        if sender.account in user.blocked:
            return None
        for part in parts:
            to = user.devices.get(part.device)
            if to is None:
                continue  # a ghost's
            to.head += 1
            stored = Stored(to.head, frame.to, name, frame.id, part.kind, part.body)
            to.inbox.append(stored)
            if to.out is not None:
                to.out.append(self.envelope(stored))
        return None
