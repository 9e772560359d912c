"""A lean XMPP client for measuring: RFC 6120 over plain TCP, XEP-0198, XEP-0184.

Log-in takes the usual steps (SASL PLAIN, bind, `<enable/>`, presence), one round trip each.
From then on stanzas are split with `bytes.find` and written once per turn of the event loop.

Stream management runs in both directions. The server's `<r/>` is answered at the end of the
turn. The client asks with `<r/>` when messages are unacknowledged and no question is open, so
one question covers all messages that went out meanwhile. What the server's `<a/>` means: the
process that serves the sender's connection has handled the stanza. In ejabberd that is after
routing and, for a recipient who is offline, after the call that stores the message: on
PostgreSQL after the transaction, on mnesia only in memory, to reach the disk much later.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks.harness.wire import Handler

__all__ = ["XmppConnection", "XmppError", "XmppWire", "register"]

_SM = b"urn:xmpp:sm:3"
_ASK = b"<r xmlns='" + _SM + b"'/>"
_RECEIPT = b"urn:xmpp:receipts"
_OPEN = (
    "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
_NOT_A_MESSAGE = -1
_MODULO = 1 << 32


class XmppError(Exception):
    """The server refused a step; holds what it said."""


@dataclass(frozen=True, slots=True)
class XmppWire:
    """Connects users whose password is their name.

    `sources` are local addresses to connect from in turn: one address has about 28,000
    ephemeral ports, and 127.0.0.0/8 has many addresses.
    """

    host: str
    port: int
    domain: str = "localhost"
    sources: tuple[str, ...] = ()

    async def connect(self, user: str, handler: Handler) -> XmppConnection:
        """Log `user` in, with stream management, as available."""
        loop = asyncio.get_running_loop()
        source = (self.sources[hash(user) % len(self.sources)], 0) if self.sources else None
        _, protocol = await loop.create_connection(
            lambda: XmppConnection(self.domain, handler), self.host, self.port, local_addr=source
        )
        try:
            await protocol.log_in(user)
        except BaseException:
            protocol.close()
            raise
        return protocol


class XmppConnection(asyncio.Protocol):
    """One client stream: first a dialogue of steps, then the fast path."""

    def __init__(self, domain: str, handler: Handler) -> None:
        self._domain = domain
        self._at = b"@" + domain.encode()
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._input = b""
        self._awaited: tuple[bytes, asyncio.Future[bytes]] | None = None
        self._online = False
        self._enabled: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._lost = False
        self._output: list[bytes] = []
        self._scheduled = False
        # XEP-0198: stanzas received, stanzas sent and not acknowledged, stanzas acknowledged
        self._received = 0
        self._unacknowledged: deque[int] = deque()
        self._acknowledged = 0
        self._messages_waiting = 0
        self._asked = False
        self._answer = False

    # --- log-in ---------------------------------------------------------------------------

    async def log_in(self, user: str) -> None:
        """From the first stream header to available presence."""
        await self.open_stream()
        secret = base64.b64encode(f"\0{user}\0{user}".encode()).decode()
        await self._step(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>",
            b"<success",
        )
        await self.open_stream()
        await self._step(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", b"</iq>"
        )
        self._online = True
        self._input = b""
        self._unacknowledged.append(_NOT_A_MESSAGE)
        self._transport.write(b"<enable xmlns='" + _SM + b"' resume='true'/><presence/>")
        await self._enabled

    async def open_stream(self) -> None:
        """Send a stream header and wait for the features."""
        await self._step(_OPEN.format(self._domain), b"</stream:features>")

    async def _step(self, request: str, awaited: bytes) -> bytes:
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._input = b""
        self._awaited = (awaited, future)
        self._transport.write(request.encode())
        return await future

    def _dialogue(self, data: bytes) -> None:
        self._input += data
        if self._awaited is None:
            return
        awaited, future = self._awaited
        if future.done():
            return
        if awaited in self._input and self._input.endswith(b">"):
            future.set_result(self._input)
        elif b"<failure" in self._input or b"<stream:error" in self._input:
            future.set_exception(XmppError(self._input.decode(errors="replace")))

    # --- the interface of a harness connection -----------------------------------------------

    def send(self, to: str, message_id: int, payload: bytes) -> None:
        """A chat message that asks for a receipt, to the user's bare address."""
        self._output.append(
            b"<message to='%b%b' type='chat' id='%d'><body>%b</body>"
            b"<request xmlns='urn:xmpp:receipts'/></message>"
            % (to.encode(), self._at, message_id, payload)
        )
        self._unacknowledged.append(message_id)
        self._messages_waiting += 1
        if not self._scheduled:
            self._schedule()

    def receipt(self, origin: object) -> None:
        """The XEP-0184 receipt, to the full address the message came from."""
        sender, message_id = cast("tuple[bytes, bytes]", origin)
        self._output.append(
            b"<message to='%b' type='chat'><received xmlns='urn:xmpp:receipts' id='%b'/></message>"
            % (sender, message_id)
        )
        self._unacknowledged.append(_NOT_A_MESSAGE)
        if not self._scheduled:
            self._schedule()

    def acknowledge(self, origin: object) -> None:
        """Nothing: stream management acknowledges all that came in."""

    def close(self) -> None:
        """End the stream, so that the server keeps no session to resume."""
        if not self._closing:
            self._closing = True
            self._output.append(b"</stream:stream>")
            self._messages_waiting = 0
            self._flush()
            self._transport.close()

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        output = self._output
        if self._answer:
            self._answer = False
            output.append(b"<a xmlns='%b' h='%d'/>" % (_SM, self._received % _MODULO))
        if self._messages_waiting and not self._asked:
            self._asked = True
            output.append(_ASK)
        if output:
            if not self._lost:
                self._transport.write(b"".join(output))
            output.clear()

    # --- asyncio.Protocol and the fast path ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is up (uvloop sets TCP_NODELAY)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits; an end not asked for is a failure."""
        error = XmppError(f"connection lost: {exc or 'closed by the server'}")
        if self._awaited and not self._awaited[1].done():
            self._awaited[1].set_exception(error)
        elif self._online and not self._enabled.done():
            self._enabled.set_exception(error)
        elif not self._closing:
            self._handler.on_failure(str(error))
        self._closing = self._lost = True

    def data_received(self, data: bytes) -> None:
        """Split off all whole stanzas."""
        if not self._online:
            self._dialogue(data)
            return
        if self._input:
            data = self._input + data
        find = data.find
        position, size = 0, len(data)
        while position < size:
            if data.startswith(b"<message", position):
                head = find(b">", position)
                if head < 0:
                    break
                end = head if data[head - 1] == 47 else find(b"</message>", head)
                if end < 0:
                    break
                self._received += 1
                if end != head:
                    self._message(data, position, head, end)
                    position = end + 10
                else:
                    position = end + 1
                continue
            end = _element_end(data, position)
            if end < 0:
                break
            self._other(data[position:end])
            position = end
        self._input = data[position:]

    def _message(self, data: bytes, start: int, head: int, end: int) -> None:
        find = data.find
        if find(b" type='error'", start, head) > 0:
            self._handler.on_failure(data[start:end].decode(errors="replace"))
            return
        body = find(b"<body>", head, end)
        if body > 0:
            payload = data[body + 6 : find(b"</body>", body, end)]
            origin = (
                _attribute(data, b" from='", start, head),
                _attribute(data, b" id='", start, head),
            )
            if not self._closing:
                self._handler.on_message(origin, payload)
            return
        received = find(b"<received ", head, end)
        if received > 0:
            self._handler.on_receipt(int(_attribute(data, b" id='", received, end)))

    def _other(self, stanza: bytes) -> None:
        if stanza.startswith(b"<a "):
            self._acknowledge(int(_attribute(stanza, b" h='", 0, len(stanza))))
        elif stanza.startswith(b"<r "):
            self._answer = True
            if not self._scheduled:
                self._schedule()
        elif stanza.startswith((b"<presence", b"<iq")):
            self._received += 1
        elif stanza.startswith(b"<enabled"):
            if not self._enabled.done():
                self._enabled.set_result(None)
        elif not self._closing:  # <failed/>, <stream:error>, </stream:stream>
            self._handler.on_failure(stanza.decode(errors="replace"))

    def _acknowledge(self, total: int) -> None:
        self._asked = False
        waiting, accepted = self._unacknowledged, self._handler.on_accepted
        fresh = (total - self._acknowledged) % _MODULO
        self._acknowledged = total
        for _ in range(fresh):
            message_id = waiting.popleft()
            if message_id != _NOT_A_MESSAGE:
                self._messages_waiting -= 1
                accepted(message_id)
        if self._messages_waiting and not self._scheduled:
            self._schedule()


def _attribute(data: bytes, name: bytes, start: int, end: int) -> bytes:
    begin = data.find(name, start, end)
    if begin < 0:
        raise XmppError(f"no {name!r} in {data[start:end]!r}")
    begin += len(name)
    return data[begin : data.index(b"'", begin)]


def _element_end(data: bytes, start: int) -> int:
    """The index behind the top-level element that begins at `start`, or -1 if incomplete.

    Right for elements that do not contain one of their own name, as all here.
    """
    head = data.find(b">", start)
    if head < 0:
        return -1
    if data[head - 1] == 47 or data.startswith(b"</", start):
        return head + 1
    name = data[start + 1 : head].split(None, 1)[0]
    close = b"</" + name + b">"
    end = data.find(close, head)
    return end + len(close) if end >= 0 else -1


async def register(wire: XmppWire, users: Sequence[str]) -> None:
    """Make accounts in bulk by XEP-0077, pipelined on one stream that never logs in.

    The server must allow registration without a pause. Accounts that exist are left alone.
    """
    reader, writer = await asyncio.open_connection(wire.host, wire.port, limit=1 << 20)
    writer.write(_OPEN.format(wire.domain).encode())
    await reader.readuntil(b"</stream:features>")
    for batch in (users[i : i + 100] for i in range(0, len(users), 100)):
        writer.write(
            "".join(
                f"<iq type='set' id='{user}'><query xmlns='jabber:iq:register'>"
                f"<username>{user}</username><password>{user}</password></query></iq>"
                for user in batch
            ).encode()
        )
        for _ in batch:
            await _registered(reader)
    writer.write(b"</stream:stream>")
    writer.close()
    await writer.wait_closed()


async def _registered(reader: asyncio.StreamReader) -> None:
    answer = await reader.readuntil(b">")
    if answer.startswith(b"</stream"):
        raise XmppError("the server ended the registering stream")
    if not answer.endswith(b"/>"):
        answer += await reader.readuntil(b"</iq>")
    if b"type='error'" in answer and b"<conflict" not in answer:
        raise XmppError(answer.decode(errors="replace"))
