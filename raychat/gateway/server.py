"""A gateway: pins WebSockets, carries frames to hosts and back, serves the HTTP API.

It holds no state that matters. Kill it, and every device connects to another one and loses
nothing: what was not acknowledged is sent again, what is in an inbox waits there. Plain asyncio:
Ray runs it (`cluster.actors`), tests do too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import structlog
from aiohttp import WSMsgType, web

from raychat import limits
from raychat.cluster.link import Link, Links
from raychat.cluster.placement import Layout
from raychat.errors import (
    Malformed,
    Overloaded,
    Timeout,
    Unavailable,
    Unsupported,
    from_code,
)
from raychat.gateway.session import Budget, End, Reply, Route, Session, State
from raychat.gateway.socket import DeviceSocket
from raychat.ids import AccountId, SessionId
from raychat.observe.metrics import GatewayMetrics
from raychat.wire import frames
from raychat.wire.batch import Item, Op
from raychat.wire.frames import SUBPROTOCOL, Close, Goodbye, pack_goodbye

log = structlog.get_logger("raychat.gateway")

SWEEP_SECONDS = 5.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """One edge process. `layout` says which host an account lives on."""

    def __init__(
        self,
        name: str,
        links: Links,
        layout: Layout,
        metrics: GatewayMetrics,
        budget: Budget | None = None,
    ) -> None:
        self.name = name
        self._links = links
        self._layout = layout
        self._fixed_hosts = frozenset(layout.fixed_hosts())
        self._metrics = metrics
        self._budget = budget or Budget()
        self._sockets: dict[int, DeviceSocket] = {}
        # Numbers begin at random: what a host answers to a gateway that has died must not meet a
        # session or a request of the one that has come in its place.
        self._numbers = count(int.from_bytes(os.urandom(6)))
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._request_numbers = count(int.from_bytes(os.urandom(6)))
        self._loop = asyncio.get_running_loop()
        self._runner: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._closing = False

    # -- life ------------------------------------------------------------------------------

    async def start(
        self,
        app: web.Application,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        otherwise: Handler | None = None,
    ) -> None:
        """Serve on a bound socket: `app`, the device socket, `otherwise` for all other paths."""
        app.router.add_get("/v1/socket", self._serve_socket)
        if otherwise is not None:
            app.router.add_route("*", "/{path:.*}", otherwise)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, ssl_context=tls, backlog=4096).start()
        for name in self._fixed_hosts:
            self._link(name)
        self._sweeper = asyncio.create_task(self._sweep())

    async def drain(self) -> None:
        """Send every device away, spread over time, then close. Loses nothing."""
        self._closing = True
        goodbye = pack_goodbye(
            Goodbye(
                "going-away",
                "The gateway restarts; connect again.",
                limits.RECONNECT_MIN_MS,
                limits.RECONNECT_MAX_MS,
            )
        )
        devices = list(self._sockets.values())
        for device in devices:
            device.send(goodbye)
            device.close(Close.GOING_AWAY, "going-away")
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._runner is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self._runner.cleanup()
        for device in devices:
            device.transport.abort()  # has had its time to read to the end
        await self._links.close()

    @property
    def connections(self) -> int:
        return len(self._sockets)

    # -- towards the hosts -----------------------------------------------------------------

    def _link(self, name: str) -> Link:
        """The link to a host. Raises Unavailable for one that has never been there: whoever asks
        for accounts that do not exist must not make a link for each."""
        link = self._links.get(name)
        if link is None:
            if name not in self._fixed_hosts and not self._links.socket(name).exists():
                raise Unavailable
            link = self._links.dial(name, self._make_link)
        return link

    def _make_link(self, name: str) -> Link:
        return Link(name, self._on_items, self._on_restart)

    def _route(self, route: Route) -> Link:
        """Raises Unavailable."""
        link = self._link(self._layout.host_of(route.account))
        link.send(route.item, route.size)
        return link

    def _on_restart(self, link: Link) -> None:
        """A host has been restarted: it must learn who is connected."""
        for device in self._sockets.values():
            session = device.session
            if session.account is not None and session.state in (State.CLAIMING, State.ADMITTED):
                route = session.attach(again=True)
                if self._layout.host_of(route.account) == link.name:
                    link.send(route.item, route.size)

    async def request(self, account: AccountId, verb: str, *arguments: Any) -> Any:
        """Ask the host of an account. Raises what the host answers, or Timeout."""
        if len(self._requests) >= limits.REQUESTS_WAITING:
            raise Overloaded
        number = next(self._request_numbers)
        future = self._requests[number] = self._loop.create_future()
        item = (Op.REQUEST, number, verb, account, arguments)
        self._route(Route(account, item, 256))
        try:
            async with asyncio.timeout(limits.REQUEST_SECONDS):
                return await future
        except TimeoutError as error:
            raise Timeout from error
        finally:
            del self._requests[number]

    # -- from the hosts --------------------------------------------------------------------

    def _on_items(self, link: Link, items: list[Item], sequence: int) -> None:
        sockets = self._sockets
        out: dict[int, list[bytes]] = {}
        for item in items:
            op, number = item[0], item[1]
            if op == 20:
                self._answered(*item[1:])
                continue
            device = sockets.get(number)
            if device is None:
                continue
            if op == 19:
                self._write(number, out.pop(number, []))
                self._dismiss(device, *item[2:])
                continue
            if op == 18:
                if not device.session.admit(item[3]):
                    continue  # attached again after the host's restart: no second welcome
            elif op == 17:
                device.session.revision = item[3]
            frame = item[2]
            waiting = out.get(number)
            if waiting is None:
                out[number] = [frame]
            else:
                waiting.append(frame)
        link.done(sequence)
        for number, parts in out.items():
            self._write(number, parts)

    def _write(self, number: int, parts: list[bytes]) -> None:
        device = self._sockets.get(number)
        if device is None or not parts or not device.open:
            return
        if len(parts) == 1:
            device.send(parts[0])
        else:
            for message in frames.join(parts):
                device.send(message)

    def _dismiss(self, device: DeviceSocket, close: int, code: str, detail: str) -> None:
        device.session.state = State.CLOSED
        self._end(device, End(Close(close), code, detail))

    def _answered(self, number: int, code: str | None, result: Any) -> None:
        future = self._requests.get(number)
        if future is None or future.done():
            return
        if code is None:
            future.set_result(result)
        else:
            future.set_exception(from_code(code, str(result)))

    # -- devices ---------------------------------------------------------------------------

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if self._closing or len(self._sockets) >= limits.CONNECTIONS:
            return web.Response(status=503, headers={"Retry-After": "2"})
        response = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            autoping=False,
            compress=False,
            max_msg_size=limits.FRAME_BYTES + 1,
        )
        if not response.can_prepare(request).ok:
            body = {"error": "bad-request", "detail": "A WebSocket upgrade belongs here."}
            return web.json_response({**body, "retryable": False}, status=400)
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        number = next(self._numbers)
        loop, metrics = self._loop, self._metrics
        now = loop.time()
        session = Session(SessionId(number), self._budget, now)
        device = self._sockets[number] = DeviceSocket(transport, session, now)
        metrics.connects += 1
        try:
            if response.ws_protocol != SUBPROTOCOL:
                error = Unsupported(f"Ask for the WebSocket subprotocol {SUBPROTOCOL}.")
                self._end(device, session.end(error))
            while device.open:
                message = await response.receive()
                now = loop.time()
                if session.state is not State.NEW:
                    device.heard = now
                kind = message.type
                if kind is WSMsgType.BINARY:
                    metrics.frames += 1
                    for effect in session.receive(message.data, now):
                        if type(effect) is Route:
                            link = self._take(effect, device)
                            if link is not None and link.full:
                                await self._wait_for(link, device)
                        elif type(effect) is Reply:
                            metrics.refused += 1
                            device.send(effect.frame)
                        elif type(effect) is End:
                            self._end(device, effect)
                elif kind is WSMsgType.PING:
                    device.pong(message.data)
                elif kind is WSMsgType.TEXT:
                    self._end(device, session.end(Malformed("Frames are binary messages.")))
                elif kind is not WSMsgType.PONG:
                    break
        finally:
            device.open = False
            del self._sockets[number]
            metrics.closed += 1
            route = session.detach()
            if route is not None:
                with contextlib.suppress(Unavailable):
                    self._route(route)
        return response

    def _take(self, route: Route, device: DeviceSocket) -> Link | None:
        """Pass an item on."""
        try:
            return self._route(route)
        except Unavailable as error:
            self._end(device, device.session.end(error))
            return None

    async def _wait_for(self, link: Link, device: DeviceSocket) -> None:
        """The host cannot keep up: no more is read of this device until it has."""
        try:
            await link.room(limits.REQUEST_SECONDS)
        except Timeout:
            self._end(device, device.session.end(Overloaded()))

    def _end(self, device: DeviceSocket, end: End) -> None:
        if device.open:
            pause = (limits.RECONNECT_MIN_MS, limits.RECONNECT_MAX_MS)
            device.send(pack_goodbye(Goodbye(end.code, end.detail, *pause)))
            device.close(end.close, end.code)

    async def _sweep(self) -> None:
        """Ask quiet devices whether they are there; cut off those that do not answer."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311
            now = self._loop.time()
            for number, device in enumerate(list(self._sockets.values())):
                quiet = now - device.heard
                if not device.open:
                    continue
                if device.session.state is State.NEW:
                    if quiet > limits.HELLO_SECONDS:
                        self._end(device, End(Close.NO_HELLO, "timeout", "No hello came in time."))
                elif device.session.state is State.CLAIMING:
                    if quiet > limits.HELLO_SECONDS:
                        self._end(device, device.session.end(Unavailable()))
                elif quiet > limits.IDLE_SECONDS:
                    device.close(Close.GOING_AWAY, "timeout")
                elif quiet > limits.PING_SECONDS:
                    device.ping()
                if number % 1000 == 999:
                    await asyncio.sleep(0)
            self._metrics.connections = len(self._sockets)
            self._metrics.links = {link.name: link.unsettled for link in self._links.all()}

    def health(self) -> dict[str, Any]:
        """`status` is ok while every link that has been used is up."""
        links = {link.name: link.connected for link in self._links.all()}
        return {
            "status": "ok" if all(links.values()) else "degraded",
            "gateway": self.name,
            "connections": len(self._sockets),
            "hosts_connected": sum(links.values()),
            "hosts": len(links),
        }


__all__ = ["Gateway", "frames"]
