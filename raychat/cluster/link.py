"""Links: one ordered, authenticated, resumable byte stream between two processes.

`Link` is one end as its owner sees it: it outlives connections. What is sent while there is
none waits, bounded by a window, and goes out when there is one again. All that is sent in one
turn of the event loop leaves in one write. A heartbeat finds a dead peer within seconds: a cut
network reports nothing.

The rules (numbers, tails, proofs) are in `raychat.wire.batch`; here are sockets and timers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import structlog

from raychat import limits
from raychat.errors import RaychatError, Timeout
from raychat.ids import Secret
from raychat.wire import batch
from raychat.wire.batch import Greeting, Incoming, Item, Outgoing, Splitter

log = structlog.get_logger("raychat.link")

HEARTBEAT: Final = limits.LINK_HEARTBEAT_MS / 1000
SILENCE: Final = limits.LINK_SILENCE_MS / 1000
ACCEPT_SECONDS: Final = 0.01
"""In which a socket that has been accepted becomes a connection."""

CLOSE_SECONDS: Final = 1.0
"""What a connection may take to write what it has before it is cut off."""

ITEM_OVERHEAD: Final = 48
"""Bytes an item is counted with beside its payload."""

OnItems = Callable[["Link", list[Item], int], None]
OnEvent = Callable[["Link"], None]


class Link:
    """One end of a link to the process called `name`.

    `on_items(link, items, sequence)` takes a batch; its owner calls `done(sequence)` when it is
    dealt with for good, and only then does the other side forget it. `on_restart(link)` says
    that the other process is a new one. `on_room(link)` says that the window has opened again.
    """

    __slots__ = (
        "_connection",
        "_incoming",
        "_loop",
        "_on_items",
        "_on_restart",
        "_on_room",
        "_outgoing",
        "_owe_done",
        "_pending",
        "_pending_bytes",
        "_scheduled",
        "_waiters",
        "incarnation",
        "name",
        "peer_incarnation",
    )

    def __init__(
        self, name: str, on_items: OnItems, on_restart: OnEvent, on_room: OnEvent | None = None
    ) -> None:
        self.name = name
        self.incarnation = b""
        # Set once this end has begun anew; until then it is its process's.
        self.peer_incarnation = b""
        self._on_items = on_items
        self._on_restart = on_restart
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._outgoing = Outgoing()
        self._incoming = Incoming()
        self._pending: list[Item] = []
        self._pending_bytes = 0
        self._scheduled = False
        self._owe_done = False
        self._waiters: list[asyncio.Future[None]] = []

    # -- sending ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def unsettled(self) -> int:
        """Bytes sent or waiting that the other side has not dealt with yet."""
        return self._outgoing.tail_bytes + self._pending_bytes

    @property
    def full(self) -> bool:
        return self._outgoing.tail_bytes + self._pending_bytes > limits.LINK_WINDOW_BYTES

    async def room(self, timeout: float) -> None:
        """Wait until the window is open. Raises Timeout."""
        while self.full:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout(timeout):
                    await waiter
            except TimeoutError as error:
                raise Timeout from error

    def send(self, item: Item, size: int = 0) -> None:
        """Put an item (with about `size` bytes of payload) into this turn's batch."""
        self._pending.append(item)
        self._pending_bytes += size + ITEM_OVERHEAD
        self._schedule()

    def done(self, sequence: int) -> None:
        """Everything up to this batch of the other side is dealt with."""
        self._incoming.done = sequence
        self._owe_done = True
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what this turn has put together."""
        self._scheduled = False
        connection = self._connection
        if connection is None:
            return
        if self._pending:
            items, size = self._pending, self._pending_bytes
            self._pending, self._pending_bytes = [], 0
            sequence = self._outgoing.add(items, size)
            try:
                connection.write((sequence, self._incoming.done, items))
            except (OverflowError, TypeError, ValueError) as error:
                # What cannot be packed must not stand in everything's way for ever.
                items[:] = filter(_can_be_packed, items)
                log.error("link item left out", peer=self.name, kind=type(error).__name__)
                connection.write((sequence, self._incoming.done, items))
        elif self._owe_done:
            connection.write((0, self._incoming.done, ()))
        self._owe_done = False

    def forget(self) -> None:
        """Drop all that is on its way. For a new process at the other end."""
        self._outgoing.drop()
        self._pending, self._pending_bytes = [], 0

    def begin_anew(self) -> None:
        """Drop all that is on its way, and be a new process to the other side, which so learns
        that something is missing."""
        self.forget()
        self.incarnation = os.urandom(16)
        if self._connection is not None:
            self._connection.abort()

    # -- the connection under it -----------------------------------------------------------

    def accepted(self, peer: Greeting) -> int:
        """The last batch taken from this incarnation of the peer."""
        return self._incoming.accepted if peer.incarnation == self.peer_incarnation else 0

    def _connect(self, connection: _Connection, peer: Greeting, accepted: int) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = connection
        if peer.incarnation != self.peer_incarnation:
            known = bool(self.peer_incarnation)
            self.peer_incarnation = peer.incarnation
            self._incoming = Incoming()
            if known:
                self._on_restart(self)
        for sequence, items in self._outgoing.after(accepted):
            connection.write((sequence, self._incoming.done, items))
        self._owe_done = True
        self._schedule()

    def _disconnect(self, connection: _Connection) -> None:
        if self._connection is connection:
            self._connection = None

    def _receive(self, connection: _Connection, message: list[Any]) -> None:
        if connection is not self._connection:
            return  # replaced since: what it still brings has been sent again over the new one
        sequence, done, items = batch.read_batch(message)
        if done:
            was_full = self.full
            self._outgoing.done(done)
            if not self.full:
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_result(None)
                self._waiters.clear()
                if was_full and self._on_room is not None:
                    self._on_room(self)
        if sequence and self._incoming.accept(sequence):
            self._on_items(self, items, sequence)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _can_be_packed(item: Item) -> bool:
    try:
        batch.pack(item)
    except (OverflowError, TypeError, ValueError):
        return False
    return True


class _Connection(asyncio.Protocol):
    """One socket of a link, from greeting to end."""

    def __init__(self, links: Links, incarnation: bytes) -> None:
        self._links = links
        self._me = Greeting(links.name, incarnation, batch.new_nonce())
        self._secret = links.secret
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._said = self._loop.time()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._links.connections.add(self)
        self._transport.set_write_buffer_limits(high=limits.LINK_WINDOW_BYTES)
        self._timer = self._loop.call_later(HEARTBEAT, self._tick)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            for message in self._splitter.feed(data):
                if self._link is not None:
                    self._link._receive(self, message)
                else:
                    self._greet(message)
        except RaychatError as error:
            log.warning("link refused", code=error.code, peer=self._peer_name())
            self.close()

    def _peer_name(self) -> str:
        return self._link.name if self._link is not None else "unknown"

    def _greet(self, message: list[Any]) -> None:
        raise NotImplementedError

    def _join(self, link: Link, peer: Greeting, accepted: int) -> None:
        self._link = link
        link._connect(self, peer, accepted)

    def write(self, message: tuple[int, int, Any]) -> None:
        self._said = self._loop.time()
        if self._transport is not None:
            self._transport.write(batch.pack(message))

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._heard > SILENCE:
            log.warning("link silent", peer=self._peer_name())
            self.abort()
            return
        if self._link is not None and now - self._said >= HEARTBEAT:
            self.write((0, self._link._incoming.done, ()))
        self._timer = self._loop.call_later(HEARTBEAT, self._tick)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._links.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link._disconnect(self)
        if not self.closed.done():
            self.closed.set_result(None)


class _Dialing(_Connection):
    """The side that opened the connection."""

    def __init__(self, links: Links, link: Link) -> None:
        super().__init__(links, links.incarnation_to(link.name))
        self._wanted = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        self._transport.write(batch.pack((batch.MAGIC, batch.VERSION, *self._me)))

    def _greet(self, message: list[Any]) -> None:
        peer, proof, accepted = batch.read_answer(message)
        batch.check_proof(proof, self._secret, b"l", self._me, peer)
        assert self._transport is not None
        link = self._wanted
        mine = batch.proof(self._secret, b"d", self._me, peer)
        self._transport.write(batch.pack((mine, link.accepted(peer))))
        self._join(link, peer, accepted)


class _Answering(_Connection):
    """The side that listened. Reads nothing of a peer that has not proved itself."""

    def __init__(self, links: Links, link_for: Callable[[str], Link]) -> None:
        super().__init__(links, links.incarnation)
        self._link_for = link_for
        self._peer: Greeting | None = None

    def _greet(self, message: list[Any]) -> None:
        assert self._transport is not None
        if self._peer is None:
            self._peer = batch.read_hello(message)
            self._me = self._me._replace(incarnation=self._links.incarnation_to(self._peer.name))
            proof = batch.proof(self._secret, b"l", self._peer, self._me)
            known = self._links.get(self._peer.name)
            accepted = known.accepted(self._peer) if known is not None else 0
            self._transport.write(batch.pack((*self._me, proof, accepted)))
            return
        proof, accepted = batch.read_end(message)
        batch.check_proof(proof, self._secret, b"d", self._peer, self._me)
        self._join(self._link_for(self._peer.name), self._peer, accepted)


class Links:
    """All links of one process: those it dials, and those that dial it.

    `socket(name)` is where a process listens: on one node a Unix socket named after it.
    """

    def __init__(self, name: str, directory: Path, secret: Secret) -> None:
        self.name = name
        self.incarnation = os.urandom(16)
        self._directory = directory
        self.secret = secret
        self.connections: set[_Connection] = set()
        """All that are open, those that have not greeted yet among them."""
        self._links: dict[str, Link] = {}
        self._dialers: dict[str, asyncio.Task[None]] = {}
        self._server: asyncio.AbstractServer | None = None

    def incarnation_to(self, name: str) -> bytes:
        """What this process is to another one: the same until their link begins anew."""
        link = self._links.get(name)
        return (link.incarnation if link is not None else b"") or self.incarnation

    def socket(self, name: str) -> Path:
        return self._directory / f"{name}.sock"

    async def listen(self, link_for: Callable[[str], Link]) -> None:
        """Accept links; `link_for(name)` makes the link of a peer seen for the first time."""
        path = self.socket(self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

        def known_or_new(name: str) -> Link:
            if name not in self._links:
                self._links[name] = link_for(name)
            return self._links[name]

        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Answering(self, known_or_new), str(path)
        )
        path.chmod(0o600)

    def dial(self, name: str, make: Callable[[str], Link]) -> Link:
        """The link to a process that listens, made (and kept connected) on first use."""
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = make(name)
            task = asyncio.create_task(self._keep_dialing(link), name=f"link to {name}")
            self._dialers[name] = task
        return link

    async def _keep_dialing(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.01
        while True:
            try:
                connection = link._connection or await self._dial_once(link)
            except (OSError, TimeoutError):
                pause = min(pause * 2, limits.LINK_RETRY_MAX_MS / 1000)
            else:
                started = loop.time()
                await connection.closed
                if loop.time() - started > 1:
                    pause = 0.01
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311

    async def _dial_once(self, link: Link) -> _Connection:
        """Only while there is no connection: two hosts that dial each other need but one, and
        each new one would end the one before."""
        connection = _Dialing(self, link)
        async with asyncio.timeout(SILENCE):
            await asyncio.get_running_loop().create_unix_connection(
                lambda: connection, str(self.socket(link.name))
            )
        return connection

    def get(self, name: str) -> Link | None:
        return self._links.get(name)

    def all(self) -> list[Link]:
        return list(self._links.values())

    async def close(self) -> None:
        """End all links. What is on its way may be lost: drain first."""
        for task in self._dialers.values():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._server is not None:
            # First nobody can dial any more, then what had been accepted becomes a connection:
            # asyncio loses a socket that it accepts in the very turn its server closes.
            self.socket(self.name).unlink(missing_ok=True)
            await asyncio.sleep(ACCEPT_SECONDS)
            self._server.close()
        ending = list(self.connections)
        for connection in ending:
            connection.close()
        if ending:
            await asyncio.wait([c.closed for c in ending], timeout=CLOSE_SECONDS)
        for connection in list(self.connections):
            connection.abort()
