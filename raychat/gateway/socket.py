"""A device's WebSocket: reads with aiohttp, writes straight to its transport.

A server's frame is two to ten bytes and the payload, so writing it needs no coroutine: what a
link batch brings for a connection goes out in one write, from a callback. aiohttp writes
control frames of its own to the same transport; both write whole frames, so they do not mix.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

import structlog

from raychat import limits
from raychat.gateway.session import Session
from raychat.wire.frames import Close

log = structlog.get_logger("raychat.gateway")

BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = b"\x89\x00"
PONG: Final = 0x8A


def frame(opcode: int, payload: bytes) -> bytes:
    """An unmasked, unfragmented WebSocket frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return struct.pack(">BBH", opcode, 126, size) + payload
    return struct.pack(">BBQ", opcode, 127, size) + payload


class DeviceSocket:
    """A connection: its transport, its session, and when it was last heard (loop seconds)."""

    __slots__ = ("heard", "open", "session", "transport")

    def __init__(self, transport: asyncio.Transport, session: Session, now: float) -> None:
        self.transport = transport
        self.session = session
        self.heard = now
        self.open = True

    def send(self, data: bytes) -> None:
        """Write one binary message."""
        self._write(frame(BINARY, data))

    def ping(self) -> None:
        self._write(PING)

    def pong(self, payload: bytes) -> None:
        self._write(frame(PONG, payload))

    def _write(self, data: bytes) -> None:
        """Write unless closed. A device that reads too slowly is closed: its inbox waits."""
        if not self.open:
            return
        transport = self.transport
        transport.write(data)
        if transport.get_write_buffer_size() > limits.WRITE_BUDGET_BYTES:
            log.info("slow reader closed")
            self.close(Close.SLOW_READER, "slow-reader")

    def close(self, code: int, reason: str) -> None:
        """Say why, and end as soon as the device has read that, or soon after."""
        if self.open:
            self.open = False
            transport = self.transport
            transport.write(frame(CLOSE, struct.pack(">H", code) + reason.encode()[:120]))
            transport.close()
            if transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                loop.call_later(limits.CLOSE_SECONDS, transport.abort)
