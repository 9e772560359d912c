"""The device's WebSocket: connects, reads, writes, and comes back after a pause.

Everything received in one WebSocket message becomes one input of the engine, everything the
engine wants to send in one turn goes out in as few messages as hold it. Reading waits while
the engine has enough to do, so that the server's push window holds the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import aiohttp

from raychat import limits
from raychat.client.http import unreachable
from raychat.client.signals import Arrived, Input, Lost, Opened
from raychat.errors import Malformed, RaychatError, Unavailable
from raychat.wire import frames
from raychat.wire.frames import Close

log = logging.getLogger("raychat.client")

CONNECT_SECONDS: Final = 15
WRITE_SECONDS: Final = 30
CLOSE_SECONDS: Final = 2
PAUSE_MAX_MS: Final = 30_000
STABLE_SECONDS: Final = 10
"""A connection that lasted longer starts the pauses from the shortest again."""


class Connection:
    """One WebSocket after another. `deliver` takes what happens, and may make it wait."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: str,
        deliver: Callable[[Input], Awaitable[None]],
    ) -> None:
        """`server` is the server's HTTP URL; the session stays its owner's."""
        self._session = session
        self._server = server.rstrip("/")
        self._deliver = deliver
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._unsent: list[bytes] = []
        self._wake = asyncio.Event()
        self._hint: tuple[int, int] | None = None
        self._greeted = False
        self._dropped = False
        self._closing = False

    async def run(self) -> None:
        """Connect again and again, until `close`."""
        tries = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._once()
            if self._closing:
                return
            tries = 0 if loop.time() - began > STABLE_SECONDS else tries + 1
            await asyncio.sleep(self._pause(tries) / 1000)

    def greet(self, frame: bytes) -> None:
        """Send the first frame of the present connection; without one it is dropped."""
        if self._socket is not None and not self._dropped:
            self._greeted = True
            self._unsent = [frame]
            self._wake.set()

    def write(self, packed: Sequence[bytes]) -> None:
        """Send frames after the first one. What was meant for an earlier connection is dropped."""
        if self._greeted and not self._dropped:
            self._unsent += packed
            self._wake.set()

    def drop(self, min_ms: int, max_ms: int) -> None:
        """End the present connection and come back after a pause between the two."""
        self._hint = (min_ms, min(max_ms, PAUSE_MAX_MS))
        self._dropped = True
        self._wake.set()

    def close(self) -> None:
        """Write what is left, end the present connection and let `run` return."""
        self._closing = True
        self.drop(0, 0)

    def _pause(self, tries: int) -> float:
        low, high = limits.RECONNECT_MIN_MS, limits.RECONNECT_MAX_MS
        if self._hint is not None:
            low, high = self._hint
            self._hint = None
        low, high = min(low, PAUSE_MAX_MS), min(max(low, high), PAUSE_MAX_MS)
        if tries <= 1:
            return random.uniform(low, high) if high > low else low  # noqa: S311 (jitter)
        grown = min(high * 2 ** min(tries - 1, 8), PAUSE_MAX_MS)
        return random.uniform(low, max(low, grown))  # noqa: S311 (jitter)

    async def _once(self) -> None:
        close: int | None = None
        error: RaychatError
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await self._session.ws_connect(
                    self._server + "/v1/socket",
                    protocols=(frames.SUBPROTOCOL,),
                    compress=0,
                    max_msg_size=limits.FRAME_BYTES + 1,
                    heartbeat=limits.PING_SECONDS,
                    timeout=aiohttp.ClientWSTimeout(
                        ws_receive=limits.IDLE_SECONDS, ws_close=CLOSE_SECONDS
                    ),
                    autoclose=True,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            await self._deliver(Lost(None, unreachable(self._server)))
            return
        if self._closing:
            await socket.close()
            return
        self._socket, self._greeted, self._dropped = socket, False, False
        self._unsent.clear()
        await self._deliver(Opened())
        reader = asyncio.ensure_future(self._read(socket))
        writer = asyncio.ensure_future(self._write(socket))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._socket, self._greeted = None, False
            for task in (reader, writer):
                task.cancel()
            results = await asyncio.gather(reader, writer, return_exceptions=True)
            with suppress(Exception):
                await socket.close()
        close = socket.close_code
        error = Unavailable("The connection to the server was lost.")
        for result in results:
            if isinstance(result, RaychatError):
                error = result
            elif isinstance(result, Exception):
                log.info("connection failed: %s", type(result).__name__)
        await self._deliver(Lost(close, error))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise Malformed("The server sent what is not a frame of this protocol.")
            received = list(frames.to_device(message.data))
            if received:
                await self._deliver(Arrived(received))

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            packed, self._unsent = self._unsent, []
            for data in frames.join(packed):
                async with asyncio.timeout(WRITE_SECONDS):
                    await socket.send_bytes(data)
            if self._dropped:
                await socket.close(code=Close.GOING_AWAY)
                return
