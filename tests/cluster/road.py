"""What the tests of the road share: hosts that crash, links and connections that are queues.

Gateway sessions, hosts and stores are the real ones; connections and links are queues that a test
breaks, drops and repeats as TCP and crashing processes would. `Traffic` is a state machine with
all that can happen to them, whatever the devices are; those are the tests' own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgpack
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
)

from raychat.clock import ManualClock
from raychat.cluster.host import UserHost
from raychat.cluster.placement import Layout
from raychat.config import Placement
from raychat.gateway.session import Budget, End, Reply, Route, Session, State
from raychat.ids import AccountId, SessionId
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.wire.batch import Op

LAYOUT = Layout(Placement.SHARDED, 2)
NAMES = ("ann", "bob")
ACCOUNTS = {"ann": AccountId(b"a" * 15 + b"\x00"), "bob": AccountId(b"b" * 15 + b"\x01")}
HOSTS = ("host-0", "host-1")
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Crashes here are of processes, not of power: a file system in memory will do."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Drive a coroutine that never really waits: the SQLite store answers at once."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


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


class Device(Protocol):
    """What the traffic needs of a device: its connection, and what is on its way."""

    session: Session | None
    up: deque[bytes]
    down: deque[bytes]

    def hello(self) -> bytes: ...

    def lose_connection(self) -> None: ...


names = st.sampled_from(NAMES)
hosts = st.sampled_from(HOSTS)


class Traffic(RuleBasedStateMachine):
    """Hosts, connections and what is on its way between them."""

    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="raychat-road-", dir=MEMORY))
        self.clock = ManualClock()
        self.hosts = {name: Host(name, self.folder / f"{name}.db", self.clock) for name in HOSTS}
        self.sessions: dict[int, tuple[Device, Session]] = {}
        self.next_session = 0

    def heal(self) -> None:
        """All goes well until everything has arrived; then it is checked."""
        raise NotImplementedError

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.heal()
            for host in self.hosts.values():
                run(host.store.close())
            shutil.rmtree(self.folder)

    def everyone(self) -> Sequence[Device]:
        """Every device that may be connected."""
        raise NotImplementedError

    def host(self, account: AccountId) -> Host:
        return self.hosts[LAYOUT.host_of(account)]

    def open(self, device: Device) -> None:
        """A connection begins; an older one of this device may still be there."""
        self.next_session += 1
        session = Session(SessionId(self.next_session), Budget(1e9, 1e9), 0.0)
        device.lose_connection()
        device.session = session
        device.up.append(device.hello())
        self.sessions[session.number] = (device, session)

    def cut(self, device: Device) -> None:
        """The connection breaks: what is on its way is lost, the gateway notices."""
        if device.session is not None:
            self.left(device.session)
            device.lose_connection()

    def left(self, session: Session) -> None:
        self.sessions.pop(session.number, None)
        route = session.detach()
        if route is not None:
            self.host(route.account).give("gateway-0", [route.item])

    def reach(self, device: Device) -> None:
        """One message of the device reaches the gateway."""
        if device.session is None or not device.up:
            return
        for effect in device.session.receive(device.up.popleft(), 0.0):
            match effect:
                case Route(account, item, _):
                    item = msgpack.unpackb(msgpack.packb(item))
                    self.host(account).give("gateway-0", [item])
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
                self.left(session)
                if current:
                    device.lose_connection()

    @rule()
    def kill_gateway(self) -> None:
        """All connections and links of the gateway are gone, with what was in them."""
        self.sessions.clear()
        for device in self.everyone():
            device.lose_connection()
        for host in self.hosts.values():
            host.tails.pop("gateway-0", None)
            host.delivered.pop("gateway-0", None)
            host.host._on_restart(host.links.dial("gateway-0"))

    def is_quiet(self) -> bool:
        """Whether nothing is on its way between hosts and gateway."""
        return not any(
            link.out for host in self.hosts.values() for link in host.links.all()
        ) and not any(tail for host in self.hosts.values() for tail in host.tails.values())
