"""A gateway and hosts without Ray: in this event loop, over real Unix sockets and a real port.

    async with Stack(folder, people(2)) as stack:
        device = stack.device(stack.persons[0])

Hosts and the gateway can be killed (nothing is drained, as after kill -9) and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import aiohttp

from raychat.accounts.linking import Grant, LinkSessions
from raychat.accounts.providers import ConsoleSender
from raychat.accounts.service import Accounts
from raychat.accounts.store import SqliteAccountStore
from raychat.clock import wall_ms
from raychat.cluster.host import UserHost
from raychat.cluster.link import Links
from raychat.cluster.placement import Layout
from raychat.config import Placement
from raychat.gateway.api import Api
from raychat.gateway.server import Gateway
from raychat.gateway.session import Budget
from raychat.ids import PRIMARY, AccountId, InboxNumber, MessageId, Secret
from raychat.keys.log import TransparencyLog
from raychat.observe.metrics import GatewayMetrics, HostMetrics
from raychat.store.sqlite import SqliteStore
from raychat.wire import frames
from raychat.wire.frames import SUBPROTOCOL, Goodbye, Kind, Part, ToDevice
from tests.faults.device import Device
from tests.people import Person, seed

SECRET = Secret(b"a secret of tests" * 2)
PLENTY = Budget(1e9, 1e9)
NO_LIMIT = 1e6
"""Scale of the budgets of registration, which have tests of their own."""

GATEWAY = "gateway-0"

T = TypeVar("T", bound=ToDevice)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something to become true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class LocalAccounts(Accounts):
    """The API's registrar when the accounts are in the same process."""

    links: LinkSessions
    log: TransparencyLog

    async def ready(self, _account: AccountId) -> None:
        return None

    async def open_link(self, link: bytes, request: bytes, token_hash: bytes) -> int:
        return self.links.open(link, request, token_hash, wall_ms())

    async def link_request(self, link: bytes) -> tuple[bytes, int]:
        return self.links.request(link, wall_ms())

    async def answer_link(self, link: bytes, grant: Grant, message: bytes) -> None:
        self.links.answer(link, grant, message, wall_ms())

    async def link_message(self, link: bytes, token_hash: bytes) -> bytes | None:
        return self.links.message(link, token_hash, wall_ms())

    async def link_grant(self, link: bytes, token_hash: bytes) -> Grant:
        return self.links.grant(link, token_hash, wall_ms())

    async def log_append(self, account: AccountId, data: bytes) -> None:
        await self.log.append(account, data)

    async def log_prove(self, account: AccountId, since: int, known: int) -> bytes:
        return await self.log.prove(account, since, known)

    async def log_state(self, since: int) -> bytes:
        return await self.log.state(since)


class Stack:
    """One gateway, its hosts, the accounts of `persons`, and numbers with codes on a console."""

    def __init__(
        self,
        folder: Path,
        persons: Sequence[Person] = (),
        *,
        hosts: int = 1,
        budget: Budget = PLENTY,
        placement: Placement = Placement.SHARDED,
    ) -> None:
        self.folder = folder
        self.persons = list(persons)
        self.layout = Layout(placement, hosts)
        self.budget = budget
        self.hosts: dict[str, UserHost] = {}
        self.host_metrics: dict[str, HostMetrics] = {}
        self.devices: list[Device] = []
        self._sockets = Path(tempfile.mkdtemp(prefix="raychat-"))
        self._reserved = _bound(0)  # holds the port while gateways come and go
        self.port = int(self._reserved.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await seed(self.folder, self.layout, self.persons)
        for name in self.layout.fixed_hosts():
            await self.start_host(name)
        self.accounts = LocalAccounts(
            SqliteAccountStore(self.folder / "accounts.db"),
            ConsoleSender(self.folder / "console.txt"),
            scale=NO_LIMIT,
        )
        self.accounts.links = LinkSessions()
        self.accounts.log = TransparencyLog(
            self.folder / "transparency.db", self.folder / "transparency.key"
        )
        await self.start_gateway()
        self.http = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for device in self.devices:
            await device.stop()
        await self.http.close()
        await self.gateway.drain()
        for name in list(self.hosts):
            await self.kill_host(name)
        await self.accounts.close()
        await self.accounts.log.close()
        self._reserved.close()
        shutil.rmtree(self._sockets)

    # -- processes -------------------------------------------------------------------------

    def links(self, name: str) -> Links:
        return Links(name, self._sockets, SECRET)

    async def start_host(self, name: str) -> UserHost:
        store = SqliteStore(self.folder / f"{name}.db", name)
        metrics = self.host_metrics[name] = HostMetrics()
        host = UserHost(name, store, self.links(name), self.layout, metrics)
        await host.start()
        self.hosts[name] = host
        return host

    async def kill_host(self, name: str) -> None:
        """What it has not committed is gone, and nobody is told."""
        host = self.hosts.pop(name)
        for task in (*host._tasks, *host._requests):
            task.cancel()
        await asyncio.gather(*host._tasks, *host._requests, return_exceptions=True)
        await host.turns.stop(5)
        for link in host._links.all():
            if link._connection is not None:
                link._connection.abort()
        await host._links.close()
        await host._store.close()

    async def restart_host(self, name: str) -> UserHost:
        await self.kill_host(name)
        return await self.start_host(name)

    async def start_gateway(self) -> None:
        self.gateway_metrics = GatewayMetrics()
        self.gateway = Gateway(
            GATEWAY, self.links(GATEWAY), self.layout, self.gateway_metrics, self.budget
        )
        api = Api(self.gateway, self.accounts)
        await self.gateway.start(api.app(), _bound(self.port), None, api.nothing)
        await until(
            lambda: all(
                link is not None and link.connected
                for link in map(self.gateway._links.get, self.layout.fixed_hosts())
            )
        )

    async def kill_gateway(self) -> None:
        """Its connections break; nobody gets a goodbye."""
        gateway = self.gateway
        for device in gateway._sockets.values():
            device.transport.abort()
        assert gateway._runner is not None
        assert gateway._sweeper is not None
        gateway._sweeper.cancel()
        for link in gateway._links.all():
            if link._connection is not None:
                link._connection.abort()
        await gateway._links.close()
        await gateway._runner.cleanup()

    def host_of(self, person: Person) -> str:
        return self.layout.host_of(person.account)

    # -- devices ---------------------------------------------------------------------------

    def device(self, person: Person) -> Device:
        """A device that connects by itself until the stack ends."""
        device = Device(person, self.url)
        self.devices.append(device)
        device.start()
        return device

    async def wire(self, protocol: str | None = SUBPROTOCOL) -> Wire:
        """A WebSocket that says only what it is told to."""
        socket = await self.http.ws_connect(
            f"{self.url}/v1/socket",
            protocols=(protocol,) if protocol else (),
            compress=0,
            max_msg_size=0,
            autoping=False,
        )
        return Wire(socket)

    async def welcomed(self, person: Person, seen: int = 0, revision: int = 0) -> Wire:
        """A WebSocket of a person's device, after its welcome."""
        wire = await self.wire()
        await wire.say(hello(person, seen=seen, revision=revision))
        await wire.hear(frames.Welcome)
        return wire


class Wire:
    """A bare WebSocket and the frames that came over it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.heard: list[ToDevice] = []
        self.largest = 0
        """Bytes of the largest message so far."""

    async def say(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def say_text(self, text: str) -> None:
        await self._socket.send_str(text)

    async def ping(self, payload: bytes = b"") -> None:
        await self._socket.ping(payload)

    async def hear(self, kind: type[T], count: int = 1, seconds: float = 5) -> list[T]:
        """Read on until there are `count` frames of a kind; returns them, oldest first."""
        async with asyncio.timeout(seconds):
            while True:
                found = [frame for frame in self.heard if isinstance(frame, kind)]
                if len(found) >= count:
                    return found
                await self._read()

    async def end(self, seconds: float = 5) -> tuple[int | None, str]:
        """Read to the end: the close code, and the code of the goodbye before it."""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(EOFError):
                while True:
                    await self._read()
        goodbyes = [frame.code for frame in self.heard if isinstance(frame, Goodbye)]
        return self._socket.close_code, goodbyes[-1] if goodbyes else ""

    async def hang_up(self) -> None:
        await self._socket.close()

    async def _read(self) -> None:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            self.largest = max(self.largest, len(message.data))
            self.heard += frames.to_device(message.data)
        elif message.type not in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
            raise EOFError(message.type.name)


def hello(person: Person, *, seen: int = 0, revision: int = 0, token: bytes | None = None) -> bytes:
    secret = person.token if token is None else Secret(token)
    return frames.pack_hello(
        frames.Hello(
            frames.VERSION, person.account, PRIMARY, secret, InboxNumber(seen), (), revision
        )
    )


def send(to: Person, number: int, body: bytes = b"hi") -> bytes:
    part = Part(PRIMARY, 1, Kind.MESSAGE, body)
    return frames.pack_send(frames.Send(to.account, MessageId(number), [part]))


def _bound(port: int) -> socket.socket:
    """A socket on a port (a free one for 0) that others may be bound to as well."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
