"""raychat under test: a server of its own in a temporary directory, and a lean driver.

The accounts are written into the stores before the server starts: registration is not part of
any load. Messages are opaque 300-byte bodies, as for every peer; what is inside is the devices'
business. The sending budget of a device is raised so that it never bites (peers run unlimited).

The driver speaks `raychat.v1` over a bare asyncio protocol. WebSocket clients mask what they
send; it masks with the key 0, which costs the generator nothing and the server its full work.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import msgpack

from benchmarks.harness.cpu import Processes
from benchmarks.harness.wire import Handler
from raychat.cluster.placement import Layout
from raychat.config import Placement
from raychat.ids import PRIMARY, AccountId
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import PutDevice

__all__ = ["RaychatServer", "RaychatWire"]

START_SECONDS = 180
STOP_SECONDS = 60
GENERATIONS = 4
"""Loads one server can bear: each has accounts of its own."""


def account_of(user: str) -> AccountId:
    """A user's account: any user name is one, and only those made beforehand can connect."""
    return AccountId(sha256(f"account {user}".encode()).digest()[:16])


def token_of(user: str) -> bytes:
    return sha256(f"token {user}".encode()).digest()


class RaychatServer:
    """`raychat up` as a subprocess. A context manager; everything it starts ends with it."""

    name = "raychat"

    def __init__(self, users: Sequence[str], *, hosts: int = 1, gateways: int = 1) -> None:
        self._users = users
        self._hosts = hosts
        self._gateways = gateways
        self._generation = 0
        self._last: set[str] = set()

    def __enter__(self) -> RaychatServer:
        self._folder = Path(tempfile.mkdtemp(prefix="raychat-bench-"))
        layout = Layout(Placement.SHARDED, self._hosts)
        names = (f"{g}/{user}" for g in range(1, GENERATIONS + 1) for user in self._users)
        asyncio.run(_seed(self._folder / "hosts", layout, list(names)))
        command = [
            sys.executable,
            "-m",
            "raychat.main",
            "up",
            "--json",
            "--port=0",
            f"--data={self._folder}",
            f"--hosts={self._hosts}",
            f"--gateways={self._gateways}",
            "--dashboard-port=0",
            "--send-burst=1000000000",
            "--send-per-second=1000000000",
        ]
        self._log = (self._folder / "up.log").open("w")
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__()
            raise RuntimeError((self._folder / "up.log").read_text())
        self.port = int(json.loads(line)["gateway"].rpartition(":")[2])
        self._processes = Processes(roots=[self._process.pid])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def processes(self) -> Processes:
        """The launcher, Ray's own processes, the gateways and the hosts."""
        return self._processes

    @property
    def actor_pids(self) -> list[int]:
        """The gateways and hosts alone."""
        return [p.pid for p in self._processes.members() if "ray::" in p.command]

    def wire(self, users: Sequence[str]) -> RaychatWire:
        """A driver for these users. Message ids are counted for ever, and the generator does
        not remember them: so each load gets accounts of its own, except one that goes on with
        some users of the load before it (those that were offline)."""
        if not set(users) < self._last:
            self._generation += 1
        self._last = set(users)
        return RaychatWire(self.port, str(self._generation))


async def _seed(folder: Path, layout: Layout, users: Iterable[str]) -> None:
    for host in layout.fixed_hosts():
        store = SqliteStore(folder / f"{host}.db", host)
        mine = [user for user in users if layout.host_of(account_of(user)) == host]
        for at in range(0, len(mine), 1_000):
            writes = Writes()
            for user in mine[at : at + 1_000]:
                token = sha256(token_of(user)).digest()
                writes.devices.append(PutDevice(account_of(user), PRIMARY, 1, token))
            await store.commit(writes)
        await store.close()


class RaychatWire:
    """Connects devices, spread over 127.0.0.x so that ports do not run out."""

    def __init__(self, port: int, generation: str) -> None:
        self.port = port
        self._generation = generation
        self._opened = 0

    async def connect(self, user: str, handler: Handler) -> _Connection:
        loop = asyncio.get_running_loop()
        self._opened += 1
        source = f"127.0.0.{1 + self._opened // 20_000}"
        _, connection = await loop.create_connection(
            lambda: _Connection(self._generation, user, handler),
            "127.0.0.1",
            self.port,
            local_addr=(source, 0),
        )
        async with asyncio.timeout(60):
            await connection.welcome
        return connection


_pack = msgpack.Packer(autoreset=True).pack


class _Connection(asyncio.Protocol):
    """One device. Frames put together in a turn of the loop leave in one WebSocket message."""

    def __init__(self, generation: str, user: str, handler: Handler) -> None:
        self._generation = generation
        self._user = f"{generation}/{user}"
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self.welcome: asyncio.Future[None] = self._loop.create_future()
        self._buffer = b""
        self._upgraded = False
        self._out: list[bytes] = []
        self._acked = 0
        self._seen = 0
        self._sent: dict[bytes, list[int]] = {}
        self._accepted: dict[bytes, int] = {}
        self._receipted: dict[bytes, int] = {}
        self._accounts: dict[str, bytes] = {}
        self._scheduled = False
        self._closing = False

    # -- Connection ------------------------------------------------------------------------

    def send(self, to: str, message_id: int, payload: bytes) -> None:
        account = self._accounts.get(to)
        if account is None:
            account = self._accounts[to] = account_of(f"{self._generation}/{to}")
            self._sent[account] = []
            self._accepted[account] = 0
        ids = self._sent[account]
        ids.append(message_id)
        self._out.append(_pack((2, account, len(ids), ((1, 1, 2, payload),))))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def receipt(self, origin: object) -> None:
        """The acknowledgement of an envelope is what becomes its sender's receipt."""
        assert isinstance(origin, int)
        self._acked = max(self._acked, origin)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def acknowledge(self, origin: object) -> None:
        """The same frame: the server forgets an envelope once it is acknowledged."""
        self.receipt(origin)

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /v1/socket HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: raychat.v1\r\n\r\n".encode()
        )
        hello = (1, 1, account_of(self._user), 1, token_of(self._user), 0, (), 0)
        self._out.append(_pack(hello))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self._fail(f"no upgrade: {head[:80]!r}")
                return
            self._upgraded = True
            self._flush()
        start, end = 0, len(buffer)
        while end - start >= 2:
            size = buffer[start + 1]
            head_size = 2
            if size == 126:
                head_size = 4
                if end - start < 4:
                    break
                size = int.from_bytes(buffer[start + 2 : start + 4], "big")
            elif size == 127:
                head_size = 10
                if end - start < 10:
                    break
                size = int.from_bytes(buffer[start + 2 : start + 10], "big")
            if end - start < head_size + size:
                break
            payload = buffer[start + head_size : start + head_size + size]
            self._websocket(buffer[start] & 15, payload)
            start += head_size + size
        self._buffer = buffer[start:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._fail(f"connection lost: {error!r}")

    # -- inside ----------------------------------------------------------------------------

    def _websocket(self, opcode: int, payload: bytes) -> None:
        if opcode == 2:
            unpacker = msgpack.Unpacker()
            unpacker.feed(payload)
            for frame in unpacker:
                self._frame(frame)
        elif opcode == 9:
            self._transport.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        elif opcode == 8 and not self._closing:
            self._fail(f"closed: {payload!r}")

    def _frame(self, frame: list[Any]) -> None:
        kind = frame[0]
        if kind == 19:
            number = frame[1]
            if number > self._seen:
                self._seen = number
                self._handler.on_message(number, frame[8])
        elif kind == 20:
            _, _, peer, _, ranges = frame
            ids, had = self._sent[peer], self._receipted.get(peer, 0)
            for number in range(max(had + 1, ranges[0]), ranges[-1] + 1):
                self._handler.on_receipt(ids[number - 1])
            self._receipted[peer] = max(had, ranges[-1])
        elif kind == 17:
            _, to, upto, _ = frame
            before, self._accepted[to] = self._accepted[to], max(upto, self._accepted[to])
            for number in range(before, upto):
                self._handler.on_accepted(self._sent[to][number])
        elif kind == 16:
            if not self.welcome.done():
                self.welcome.set_result(None)
        elif kind in (18, 21):
            self._fail(f"refused: {frame[1:]}")

    def _fail(self, reason: str) -> None:
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError(reason))
        self._handler.on_failure(reason)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._upgraded:
            return
        out = self._out
        if self._acked:
            out.append(_pack((3, self._acked, ())))
            self._acked = 0
        if not out:
            return
        payload = b"".join(out)
        out.clear()
        size = len(payload)
        if size < 126:
            head = bytes((0x82, 0x80 | size, 0, 0, 0, 0))
        elif size < 65536:
            head = bytes((0x82, 0xFE)) + size.to_bytes(2, "big") + b"\0\0\0\0"
        else:
            head = bytes((0x82, 0xFF)) + size.to_bytes(8, "big") + b"\0\0\0\0"
        self._transport.write(head + payload)
