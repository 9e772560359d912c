"""A world in memory and virtual time: devices with real files and crypto, and a model server.

The model server is written from PROTOCOL.md alone and speaks in packed frames. Nothing moves
by itself: a test says which bytes arrive, which connection breaks and which device crashes.
"""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from raychat import limits
from raychat.client.engine import Engine
from raychat.client.events import Event
from raychat.client.model import Message
from raychat.client.signals import (
    AccountFound,
    AccountNotFound,
    Answer,
    Arrived,
    Compose,
    DeviceBundle,
    Effect,
    Greet,
    Input,
    KeysFound,
    KeysNotFound,
    Lost,
    MarkRead,
    Opened,
    Reconnect,
    Stop,
    Tell,
    Tick,
    Transmit,
    WantAccount,
    WantKeys,
)
from raychat.client.store import DeviceStore
from raychat.crypto import PreKeyBundle
from raychat.errors import (
    DeviceList,
    IdConflict,
    IdGap,
    IdStale,
    NotFound,
    RateLimited,
    RaychatError,
    Unavailable,
)
from raychat.ids import AccountId, DeviceId, InboxNumber, PhoneNumber, Secret
from raychat.wire import content, frames
from raychat.wire.frames import Goodbye, Outcome, Refused, Welcome

NOW = 1_700_000_000_000
ONE = DeviceId(1)
Name = tuple[AccountId, int]


@dataclass
class Stored:
    """An envelope in an inbox of the model server."""

    number: int
    to: AccountId
    sender: AccountId
    incarnation: int
    id: int
    kind: int
    body: bytes


@dataclass
class ServedUser:
    """One account of the model server, with one device."""

    account: AccountId
    number: PhoneNumber
    token: Secret = field(default_factory=lambda: Secret(b"t" * 32))
    incarnation: int = 1
    head: int = 0
    cursor: int = 0
    inbox: deque[Stored] = field(default_factory=deque)
    taken: dict[tuple[AccountId, int], list[object]] = field(default_factory=dict)
    """Parts of every message taken, for each sending (account, incarnation)."""
    receipts: list[tuple[int, AccountId, int, int]] = field(default_factory=list)
    """(revision, peer, outcome, id)."""
    bundle: PreKeyBundle | None = None
    out: deque[bytes] | None = None
    """Frames for the connected device; None while it is not connected."""


class Server:
    """PROTOCOL.md section 3, as plainly as possible."""

    def __init__(self) -> None:
        self.users: dict[AccountId, ServedUser] = {}
        self.accounts = 0
        """How many there have ever been."""
        self.now = NOW
        self.refusals: deque[RaychatError] = deque()
        """Errors for the next messages. A recipient's are of messages not taken yet."""

    def hello(self, frame: frames.Hello, out: deque[bytes]) -> None:
        user = self.users[frame.account]
        if frame.token != user.token:
            out.append(frames.pack_goodbye(Goodbye("bad-token", "no", 0, 0)))
            return
        assert frame.seen <= user.head, "seen is ahead of the inbox"
        user.out = out
        self.settle(user, frame.seen, frame.failed)
        out.append(
            frames.pack_welcome(
                Welcome(
                    1,
                    self.now,
                    user.incarnation,
                    InboxNumber(user.cursor),
                    InboxNumber(user.head),
                    len(user.receipts),
                )
            )
        )
        for stored in user.inbox:
            out.append(self.envelope(stored))
        for revision, peer, outcome, id_ in user.receipts:
            if revision > frame.revision:
                out.append(frames.pack_receipt(revision, peer, outcome, (id_, id_)))

    def envelope(self, stored: Stored) -> bytes:
        return frames.pack_envelope(
            stored.number,
            stored.sender,
            1,
            stored.incarnation,
            stored.id,
            self.now,
            stored.kind,
            stored.body,
        )

    def settle(self, user: ServedUser, upto: int, failed: object) -> None:
        assert upto <= user.head, "ack-ahead"
        while user.inbox and user.inbox[0].number <= upto:
            stored = user.inbox.popleft()
            user.cursor = stored.number
            if stored.number not in failed:  # type: ignore[operator]
                self.tell(stored, Outcome.DELIVERED)

    def tell(self, stored: Stored, outcome: Outcome) -> None:
        sender, peer = self.users[stored.sender], stored.to
        if sender.incarnation != stored.incarnation:
            return
        sender.receipts.append((len(sender.receipts) + 1, peer, outcome, stored.id))
        if sender.out is not None:
            ends = (stored.id, stored.id)
            sender.out.append(frames.pack_receipt(len(sender.receipts), peer, outcome, ends))

    def frame(self, account: AccountId, raw: list[object]) -> None:
        user = self.users[account]
        frame = frames.to_server(raw)
        if isinstance(frame, frames.Ack):
            self.settle(user, frame.upto, frame.failed)
        elif isinstance(frame, frames.Send):
            self.send(user, frame)

    def send(self, sender: ServedUser, frame: frames.Send) -> None:
        assert sender.out is not None
        error = self.take(sender, frame)
        if error is None:
            sender.out.append(frames.pack_sent(frame.to, frame.id, self.now))
        else:
            refused = Refused(frame.to, frame.id, error.code, error.detail, error.retryable)
            sender.out.append(frames.pack_refused(refused))

    def take(self, sender: ServedUser, frame: frames.Send) -> RaychatError | None:
        if self.refusals and type(self.refusals[0]) in (Unavailable, RateLimited):
            return self.refusals.popleft()  # the edge's, which does not know what is taken
        user = self.users.get(frame.to)
        if user is None:
            return NotFound()
        taken = user.taken.setdefault((sender.account, sender.incarnation), [])
        if frame.id > len(taken) + 1:
            return IdGap()
        if frame.id <= len(taken):
            if frame.id <= len(taken) - limits.ID_WINDOW:
                return IdStale()
            return None if taken[frame.id - 1] == frame.parts else IdConflict()
        if self.refusals:
            return self.refusals.popleft()
        ((device, incarnation, kind, body),) = frame.parts
        if (device, incarnation) != (1, user.incarnation):
            return DeviceList()
        taken.append(frame.parts)
        user.head += 1
        stored = Stored(
            user.head, frame.to, sender.account, sender.incarnation, frame.id, kind, body
        )
        user.inbox.append(stored)
        if user.out is not None:
            user.out.append(self.envelope(stored))
        return None


class Device:
    """A device: its file, its engine, its connection and what its user has been told."""

    def __init__(self, world: World, home: Path, number: str) -> None:
        self.world = world
        self.home = home
        self.number = PhoneNumber(number)
        self.store = DeviceStore(home)
        self.events: list[Event] = []
        self.stopped: RaychatError | None = None
        self.calls: deque[Effect] = deque()
        self.outgoing: deque[bytes] = deque()
        self.incoming: deque[bytes] | None = None
        self.answers: dict[object, object] = {}
        self.tickets = 0
        self.register()
        self.engine = Engine(self.store, lambda: 1.0)

    @property
    def user(self) -> ServedUser:
        return self.world.server.users[self.account]

    def register(self) -> None:
        server = self.world.server
        found = [user for user in server.users.values() if user.number == self.number]
        if found:
            user = found[0]
            user.incarnation += 1
            user.receipts.clear()
        else:
            server.accounts += 1
            account = AccountId(bytes([server.accounts]) * 16)
            user = server.users[account] = ServedUser(account, self.number)
        self.account = user.account
        with self.store.transaction():
            self.store.prepare(self.number, "http://server")
            keys = self.store.keys
            signed, last = keys.make_long_keys(NOW)
            self.store.register(user.account, ONE, user.incarnation, user.token)
            identity = keys.identity_key_pair()
            user.bundle = PreKeyBundle(
                keys.registration_id(),
                identity.public,
                signed.key_id,
                signed.public,
                signed.signature,
                last.key_id,
                last.public,
                last.signature,
            )

    # -- what its user does ----------------------------------------------------------------

    def turn(self, *inputs: Input) -> list[Effect]:
        effects = self.engine.turn(inputs, self.world.server.now)
        self.perform(effects)
        return effects

    def say(self, to: Device | str, text: str) -> Message:
        number = to if isinstance(to, str) else to.number
        self.tickets += 1
        body = content.encode(content.Text(self.world.server.now, text, self.number))
        self.turn(Compose(self.tickets, PhoneNumber(number), text, body))
        message = self.answers[self.tickets]
        assert isinstance(message, Message)
        return message

    def read(self, peer: Device) -> None:
        conversation = self.store.history.conversation_with(peer.account)
        if conversation is not None:
            self.turn(MarkRead(0, conversation.id, None))

    def history(self) -> list[Message]:
        return self.store.history.history(limit=10_000)

    def texts(self, *, outgoing: bool) -> list[str | None]:
        return [m.text for m in self.history() if m.outgoing is outgoing]

    # -- effects and the connection --------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Greet(frame) | Transmit(frame):
                    if self.incoming is not None:
                        self.outgoing.append(frame)
                case Tell(event):
                    self.events.append(event)
                case Answer(ticket, result):
                    self.answers[ticket] = result
                case WantAccount() | WantKeys():
                    self.calls.append(effect)
                case Reconnect():
                    self.disconnect()
                case Stop(error):
                    self.stopped = error

    def connect(self) -> None:
        if self.incoming is None and self.stopped is None:
            self.incoming = deque()
            self.turn(Opened())

    def disconnect(self, close: int | None = None) -> None:
        """The connection breaks; what is under way in both directions is lost."""
        if self.incoming is None:
            return
        self.incoming = None
        self.outgoing.clear()
        self.user.out = None
        self.turn(Lost(close, Unavailable()))

    def crash(self) -> None:
        """The process dies; only the file is left."""
        self._end()
        self._begin()

    def go_back(self, copy: Path) -> None:
        """The file is replaced by an older copy of it."""
        self._end()
        shutil.rmtree(self.home)
        shutil.copytree(copy, self.home)
        self._begin()

    def _end(self) -> None:
        self.incoming = None
        self.outgoing.clear()
        self.calls.clear()
        self.user.out = None
        self.store.close()

    def _begin(self) -> None:
        self.store = DeviceStore(self.home)
        self.engine = Engine(self.store, lambda: 1.0)

    # -- steps -----------------------------------------------------------------------------

    def to_server(self, most: int = 1_000) -> bool:
        """Let what the device has sent arrive, frame by frame."""
        moved = False
        while self.outgoing and most:
            most -= 1
            moved = True
            for raw in frames.split(self.outgoing.popleft()):
                if raw[0] == 1:
                    hello = frames.to_server(raw)
                    assert isinstance(hello, frames.Hello)
                    assert self.incoming is not None
                    self.world.server.hello(hello, self.incoming)
                else:
                    self.world.server.frame(self.account, raw)
        return moved

    def to_device(self, most: int = 1_000) -> bool:
        """Let what the server has sent arrive, as one WebSocket message."""
        if not self.incoming:
            return False
        count = min(most, len(self.incoming))
        data = b"".join(self.incoming.popleft() for _ in range(count))
        self.turn(Arrived(list(frames.to_device(data))))
        return True

    def call(self) -> bool:
        """Answer one call to the HTTP API."""
        if not self.calls:
            return False
        users = self.world.server.users
        match self.calls.popleft():
            case WantAccount(number):
                found = [user.account for user in users.values() if user.number == number]
                self.turn(
                    AccountFound(number, found[0])
                    if found
                    else AccountNotFound(number, self.world.http_error or NotFound())
                )
            case WantKeys(account):
                user = users.get(account)
                if user is None:
                    self.turn(KeysNotFound(account, NotFound()))
                    return True
                assert user.bundle is not None
                self.turn(
                    KeysNotFound(account, self.world.http_error)
                    if self.world.http_error
                    else KeysFound(account, [DeviceBundle(ONE, user.incarnation, user.bundle)])
                )
        return True


class World:
    """A server and its devices."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = Server()
        self.devices: list[Device] = []
        self.http_error: RaychatError | None = None

    def device(self, number: str) -> Device:
        device = Device(self, self.home / number, number)
        self.devices.append(device)
        return device

    def settle(self) -> None:
        """Connect everyone and let everything arrive, until nothing moves any more."""
        for _ in range(2_000):
            moved = False
            for device in self.devices:
                device.connect()
                moved |= device.to_server() | device.to_device() | device.call()
            if moved:
                continue
            deadlines = [d for device in self.devices if (d := device.engine.deadline())]
            if not deadlines:
                return
            self.server.now = max(self.server.now, min(deadlines))
            for device in self.devices:
                device.turn(Tick())
        raise AssertionError("the world does not come to rest")

    def close(self) -> None:
        for device in self.devices:
            device.store.close()
