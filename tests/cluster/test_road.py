"""The whole road in virtual time: devices, gateway sessions, hosts, stores, and every crash.

Two devices write to each other. Their Users live on two hosts, so that receipts travel between
hosts. Gateway sessions, hosts and stores are the real ones; connections and links are queues
that this test breaks, drops and repeats as TCP and crashing processes would. After any course
of events: each device shows what the other wrote exactly once and in order, nothing that got
its ✓ is missing, and once all is healed every message is shown and has its ✓✓.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raychat import limits
from raychat.clock import ManualClock
from raychat.cluster.host import UserHost
from raychat.cluster.placement import Layout
from raychat.config import Placement
from raychat.gateway.session import Budget, End, Reply, Route, Session, State
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId, Secret, SessionId
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import PutDevice
from raychat.users.ranges import Ranges
from raychat.wire import frames
from raychat.wire.batch import Op
from raychat.wire.frames import Part

LAYOUT = Layout(Placement.SHARDED, 2)
NAMES = ("ann", "bob")
ACCOUNTS = {"ann": AccountId(b"a" * 15 + b"\x00"), "bob": AccountId(b"b" * 15 + b"\x01")}
HOSTS = ("host-0", "host-1")
ONE = DeviceId(1)
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Crashes here are of processes, not of power: a file system in memory will do."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Drive a coroutine that never really waits: the SQLite store answers at once."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def token(name: str) -> Secret:
    return Secret(sha256(name.encode()).digest())


class Waited(Exception):
    """What must be durable first is not."""


class Settled(asyncio.Event):
    """Says so at once instead of waiting: here nobody else would get to act."""

    async def wait(self) -> Any:
        if not self.is_set():
            raise Waited


class Crash(BaseException):
    """The process dies here."""


class CrashingStore:
    """A store whose next commit may kill the process before or after it is durable, and during
    whose commit the host may think on."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.crash: str | None = None
        self.during: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Writes) -> None:
        during, self.during = self.during, None
        if during is not None:
            during()
        if self.crash == "before":
            raise Crash
        self._store._commit_seconds = 0.0
        await self._store.commit(writes)
        if self.crash == "after":
            raise Crash


class FakeLink:
    """One process's end of a link to `name`; what it sends waits in `out`."""

    full = False
    unsettled = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.out: deque[list[Any]] = deque()

    def send(self, item: Any, _size: int = 0) -> None:
        self.out.append(msgpack.unpackb(msgpack.packb(item)))

    def done(self, sequence: int) -> None:
        """Travels behind what was sent before it, as on a real link."""
        self.out.append(["done", sequence])

    def forget(self) -> None:
        self.out.clear()


class FakeLinks:
    def __init__(self) -> None:
        self.links: dict[str, FakeLink] = {}

    def dial(self, name: str, _make: Any = None) -> FakeLink:
        return self.links.setdefault(name, FakeLink(name))

    def all(self) -> list[FakeLink]:
        return list(self.links.values())


class Host:
    """A host process, and the link batches that are on their way to it."""

    def __init__(self, name: str, path: Path, clock: ManualClock) -> None:
        self.name, self._path, self._clock = name, path, clock
        self.tails: dict[str, deque[tuple[int, list[Any]]]] = {}
        self.sequence = 0
        self.start()

    def start(self) -> None:
        self.store = CrashingStore(SqliteStore(self._path, self.name, log_pages=300))
        self.links = FakeLinks()
        self.host = UserHost(self.name, self.store, self.links, LAYOUT, HostMetrics(), self._clock)
        self.host.turns._settled = Settled()
        self.host.turns._settled.set()
        self.delivered: dict[str, int] = {}

    def crash(self) -> None:
        """The process dies; what was not done will be sent to the next one."""
        run(self.store.close())
        self.start()
        for owed in run(self.store.owed(0, 1_000)):
            self.host._send_owed(owed)

    def give(self, peer: str, items: list[Any]) -> None:
        self.sequence += 1
        self.tails.setdefault(peer, deque()).append((self.sequence, items))

    def take_in(self, most: int) -> None:
        """Queue what the links bring, at most so many batches of each."""
        for peer, tail in self.tails.items():
            new = [piece for piece in tail if piece[0] > self.delivered.get(peer, 0)]
            for sequence, items in new[:most]:
                self.delivered[peer] = sequence
                self.host._on_items(self.links.dial(peer), items, sequence)

    def think(self) -> None:
        turns = self.host.turns
        with suppress(Waited):
            while turns._queue:
                run(turns.think())

    def turn(self, crash: str | None = None) -> None:
        """Do what has come: part of it before a commit, part while that is under way. Raises
        Crash."""
        self.store.crash = crash
        turns = self.host.turns
        self.take_in(1)

        def meanwhile() -> None:
            self.take_in(1_000)
            self.think()

        self.store.during = meanwhile
        while turns.waiting:
            self.think()
            run(turns.commit())
        self.store.crash = self.store.during = None

    def finish(self, peer: str, sequence: int) -> None:
        """The peer hears that a batch of its is dealt with, and forgets it."""
        tail = self.tails.get(peer, deque())
        while tail and tail[0][0] <= sequence:
            tail.popleft()


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


names = st.sampled_from(NAMES)
hosts = st.sampled_from(HOSTS)


class Road(RuleBasedStateMachine):
    @initialize()
    def build(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="raychat-road-", dir=MEMORY))
        self.clock = ManualClock()
        self.hosts = {name: Host(name, self.folder / f"{name}.db", self.clock) for name in HOSTS}
        self.devices = {name: Device(name) for name in NAMES}
        self.sessions: dict[int, tuple[Device, Session]] = {}
        self.next_session = 0
        for name, account in ACCOUNTS.items():
            writes = Writes()
            writes.add(PutDevice(account, ONE, 1, sha256(token(name)).digest()))
            run(self.hosts[LAYOUT.host_of(account)].store.commit(writes))
        for name in NAMES:
            self.connect(name)
        self.flow(3)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.heal()
            for host in self.hosts.values():
                run(host.store.close())
            shutil.rmtree(self.folder)

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
        """A connection begins; an older one of this device may still be there."""
        device = self.devices[name]
        self.next_session += 1
        session = Session(SessionId(self.next_session), Budget(1e9, 1e9), 0.0)
        device.lose_connection()
        device.session = session
        device.up.append(device.hello())
        self.sessions[session.number] = (device, session)

    @precondition(lambda self: any(d.session for d in self.devices.values()))
    @rule(name=names)
    def hang_up(self, name: str) -> None:
        """The connection breaks: what is on its way is lost, the gateway notices."""
        device = self.devices[name]
        if device.session is not None:
            self.gone(device.session)
            device.lose_connection()

    def gone(self, session: Session) -> None:
        self.sessions.pop(session.number, None)
        route = session.detach()
        if route is not None:
            self.hosts[LAYOUT.host_of(route.account)].give("gateway-0", [route.item])

    @precondition(lambda self: any(d.up for d in self.devices.values()))
    @rule(name=names)
    def up(self, name: str) -> None:
        """One message of the device reaches the gateway."""
        device = self.devices[name]
        if not device.up:
            device = self.devices[device.friend]
        if device.session is None or not device.up:
            return
        for effect in device.session.receive(device.up.popleft(), 0.0):
            match effect:
                case Route(account, item, _):
                    item = msgpack.unpackb(msgpack.packb(item))
                    self.hosts[LAYOUT.host_of(account)].give("gateway-0", [item])
                case Reply(frame):
                    device.down.append(frame)
                case End(_, code, _):
                    raise AssertionError(code)

    @precondition(lambda self: any(any(h.tails.values()) for h in self.hosts.values()))
    @rule(name=hosts, crash=st.sampled_from([None, None, "before", "after"]), left=st.booleans())
    def turn(self, name: str, crash: str | None, left: bool = False) -> None:
        """A host does what has come. If it dies of it, what it had sent may have `left`."""
        host = self.hosts[name]
        try:
            host.turn(crash)
        except Crash:
            if left:
                self.from_host(name, 1_000)
            self.kill_host(name)

    @rule(name=names, crash=st.sampled_from(["before", "after"]), left=st.booleans())
    def die_with_a_message(self, name: str, crash: str, left: bool) -> None:
        """A host dies around the commit of a message that has just come."""
        device = self.devices[name]
        self.write(name, 1)
        while device.up and device.session is not None:
            self.up(name)
        self.turn(LAYOUT.host_of(ACCOUNTS[device.friend]), crash, left)

    @rule(name=hosts)
    def kill_host(self, name: str) -> None:
        self.hosts[name].crash()
        self.attach_again(name)

    def attach_again(self, name: str) -> None:
        for _, session in self.sessions.values():
            if session.state in (State.CLAIMING, State.ADMITTED):
                route = session.attach(again=True)
                if LAYOUT.host_of(route.account) == name:
                    item = msgpack.unpackb(msgpack.packb(route.item))
                    self.hosts[name].give("gateway-0", [item])

    @precondition(
        lambda self: any(k.out for h in self.hosts.values() for k in h.links.links.values())
    )
    @rule(name=hosts, count=st.integers(1, 5))
    def from_host(self, name: str, count: int) -> None:
        """The gateway and the other host take some of what a host has sent."""
        for peer, link in list(self.hosts[name].links.links.items()):
            for _ in range(min(count, len(link.out))):
                item = link.out.popleft()
                if item[0] == "done":
                    self.hosts[name].finish(peer, item[1])
                elif peer in HOSTS:
                    self.hosts[peer].give(name, [item])
                else:
                    self.at_gateway(item)

    def at_gateway(self, item: list[Any]) -> None:
        known = self.sessions.get(item[1])
        if known is None:
            return
        device, session = known
        current = device.session is session
        match item:
            case [Op.ADMIT, _, frame, incarnation]:
                if session.admit(incarnation) and current:
                    device.down.append(frame)
            case [Op.DATA, _, frame]:
                if current:
                    device.down.append(frame)
            case [Op.RECEIPT, _, frame, revision]:
                session.revision = revision
                if current:
                    device.down.append(frame)
            case [Op.DISMISS, *_]:
                session.state = State.CLOSED
                self.gone(session)
                if current:
                    device.lose_connection()

    @precondition(lambda self: any(d.down for d in self.devices.values()))
    @rule(name=names)
    def down(self, name: str) -> None:
        """One message of the gateway reaches the device."""
        device = self.devices[name]
        if not device.down:
            device = self.devices[device.friend]
        if device.down and not device.take(device.down.popleft()):
            self.hang_up(device.name)

    @rule()
    def kill_gateway(self) -> None:
        """All connections and links of the gateway are gone, with what was in them."""
        self.sessions.clear()
        for device in self.devices.values():
            device.lose_connection()
        for host in self.hosts.values():
            host.tails.pop("gateway-0", None)
            host.delivered.pop("gateway-0", None)
            host.host._on_restart(host.links.dial("gateway-0"))

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
            and not any(link.out for host in self.hosts.values() for link in host.links.all())
            and not any(tail for host in self.hosts.values() for tail in host.tails.values())
        )


Road.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestRoad = Road.TestCase
