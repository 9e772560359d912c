"""The whole road in virtual time: devices, gateway sessions, hosts, stores, and every crash.

Two devices write to each other. Their Users live on two hosts, so that receipts travel between
hosts. Gateway sessions, hosts and stores are the real ones; connections and links are queues
that this test breaks, drops and repeats as TCP and crashing processes would. After any course
of events: each device shows what the other wrote exactly once and in order, nothing that got
its ✓ is missing, and once all is healed every message is shown and has its ✓✓.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from hashlib import sha256

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from raychat import limits
from raychat.gateway.session import Session
from raychat.ids import DeviceId, InboxNumber, MessageId, Secret
from raychat.store.protocol import Writes
from raychat.users.events import PutDevice
from raychat.users.ranges import Ranges
from raychat.wire import frames
from raychat.wire.frames import Part
from tests.cluster.road import ACCOUNTS, HOSTS, LAYOUT, NAMES, Traffic, names, run

ONE = DeviceId(1)


def token(name: str) -> Secret:
    return Secret(sha256(name.encode()).digest())


class Device:
    """A client by the letter of PROTOCOL.md. What it has shown and written is durable."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.friend = NAMES[1 - NAMES.index(name)]
        self.written: list[bytes] = []
        self.sent = self.offered = 0
        self.delivered = Ranges()
        self.shown: list[bytes] = []
        self.seen = 0
        self.revision = 0
        self.session: Session | None = None
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.welcome = False

    def lose_connection(self) -> None:
        self.session, self.welcome = None, False
        self.up.clear()
        self.down.clear()

    def hello(self) -> bytes:
        hello = frames.Hello(
            1, ACCOUNTS[self.name], ONE, token(self.name), InboxNumber(self.seen), [],
            self.revision,
        )  # fmt: skip
        return frames.pack_hello(hello)

    def send_on(self) -> None:
        """Send what this connection has not sent yet, as far as the window goes."""
        last = min(len(self.written), self.sent + limits.ID_WINDOW)
        first = max(self.offered, self.sent) + 1
        self.offered = max(self.offered, last)
        for number in range(first, last + 1):
            part = Part(ONE, 1, 2, self.written[number - 1])
            to = ACCOUNTS[self.friend]
            self.up.append(frames.pack_send(frames.Send(to, MessageId(number), [part])))

    def take(self, data: bytes) -> bool:
        """One WebSocket message. False if the connection is over."""
        acked = self.seen
        for frame in frames.to_device(data):
            match frame:
                case frames.Welcome():
                    self.welcome = True
                    self.offered = 0
                    self.send_on()
                case frames.Sent(_, message, _):
                    self.sent = max(self.sent, message)
                    self.send_on()
                case frames.Refused(_, message, code, _, _):
                    assert code == "id-gap", code
                case frames.Envelope():
                    if frame.number > self.seen:
                        assert frame.number == self.seen + 1, "a gap in the inbox"
                        self.seen = frame.number
                        self.shown.append(frame.body)
                case frames.Receipt(revision, _, _, ranges):
                    self.revision = max(self.revision, revision)
                    for lo, hi in zip(ranges[::2], ranges[1::2], strict=True):
                        self.delivered.add(lo, hi)
                case frames.Goodbye():
                    return False
        if self.seen > acked:
            self.up.append(frames.pack_ack(self.seen))
        return True


class Road(Traffic):
    @initialize()
    def build(self) -> None:
        self.begin()
        self.devices = {name: Device(name) for name in NAMES}
        for name, account in ACCOUNTS.items():
            writes = Writes()
            writes.add(PutDevice(account, ONE, 1, sha256(token(name)).digest()))
            run(self.hosts[LAYOUT.host_of(account)].store.commit(writes))
        for name in NAMES:
            self.connect(name)
        self.flow(3)

    def everyone(self) -> Sequence[Device]:
        return list(self.devices.values())

    # -- what can happen -------------------------------------------------------------------

    @rule(name=names, count=st.integers(1, 3))
    def write(self, name: str, count: int) -> None:
        device = self.devices[name]
        for _ in range(count):
            device.written.append(b"%s %d" % (name.encode(), len(device.written) + 1))
        if device.welcome:
            device.send_on()

    @rule(name=names)
    def connect(self, name: str) -> None:
        self.open(self.devices[name])

    @precondition(lambda self: any(d.session for d in self.devices.values()))
    @rule(name=names)
    def hang_up(self, name: str) -> None:
        self.cut(self.devices[name])

    @precondition(lambda self: any(d.up for d in self.devices.values()))
    @rule(name=names)
    def up(self, name: str) -> None:
        """One message of the device reaches the gateway."""
        device = self.devices[name]
        if not device.up:
            device = self.devices[device.friend]
        self.reach(device)

    @rule(name=names, crash=st.sampled_from(["before", "after"]), left=st.booleans())
    def die_with_a_message(self, name: str, crash: str, left: bool) -> None:
        """A host dies around the commit of a message that has just come."""
        device = self.devices[name]
        self.write(name, 1)
        while device.up and device.session is not None:
            self.up(name)
        self.turn(LAYOUT.host_of(ACCOUNTS[device.friend]), crash, left)

    @precondition(lambda self: any(d.down for d in self.devices.values()))
    @rule(name=names)
    def down(self, name: str) -> None:
        """One message of the gateway reaches the device."""
        device = self.devices[name]
        if not device.down:
            device = self.devices[device.friend]
        if device.down and not device.take(device.down.popleft()):
            self.hang_up(device.name)

    @rule(rounds=st.integers(1, 2))
    def flow(self, rounds: int) -> None:
        """All goes well for a while."""
        for _ in range(rounds):
            for name in NAMES:
                while self.devices[name].up:
                    self.up(name)
            for name in HOSTS:
                self.turn(name, None)
                self.from_host(name, 1_000)
            for name in NAMES:
                while self.devices[name].down:
                    self.down(name)

    # -- what must hold --------------------------------------------------------------------

    @invariant()
    def each_message_is_shown_once_and_in_order(self) -> None:
        for device in self.devices.values():
            friend = self.devices[device.friend]
            assert device.shown == friend.written[: len(device.shown)]
            assert all(hi <= len(friend.shown) for _, hi in device.delivered)

    def heal(self) -> None:
        """Everybody connects and everything that is on its way arrives."""
        for name in NAMES:
            self.connect(name)
        for _ in range(400):
            self.flow(1)
            if all(self.settled(device) for device in self.devices.values()):
                break
            for name in NAMES:
                if self.devices[name].session is None:
                    self.connect(name)
        for device in self.devices.values():
            assert device.shown == self.devices[device.friend].written
            assert device.sent == len(device.written), "no ✓"
            assert device.delivered.flat == ([1, device.sent] if device.sent else []), "no ✓✓"
        for host in self.hosts.values():
            assert run(host.store.depth())[0] == 0
            assert run(host.store.owed(0, 9)) == []

    def settled(self, device: Device) -> bool:
        return (
            device.welcome
            and not device.up
            and device.sent == len(device.written)
            and device.delivered.flat == ([1, device.sent] if device.sent else [])
            and self.is_quiet()
        )


Road.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestRoad = Road.TestCase
