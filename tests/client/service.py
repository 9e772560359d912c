"""The model server behind real sockets: PROTOCOL.md's HTTP calls and WebSocket, for one test."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import uuid
from collections import deque
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from raychat.clock import wall_ms
from raychat.errors import BadCode, BadToken, NoKeys, NotFound, RaychatError
from raychat.ids import AccountId, PhoneNumber, Secret, account_id, account_text
from raychat.wire import frames
from raychat.wire.frames import Close, Goodbye
from tests.client.world import ServedUser, Server

CODE = "123456"


class Outbound(deque[bytes]):
    """Frames for one socket; wakes its writer."""

    def __init__(self) -> None:
        super().__init__()
        self.wake = asyncio.Event()

    def append(self, frame: bytes) -> None:
        super().append(frame)
        self.wake.set()


class Service:
    """A server on a port of this machine. Everything it keeps is in `model`."""

    def __init__(self) -> None:
        self.model = Server()
        self.url = ""
        self.port = 0
        self.registrations: dict[str, PhoneNumber] = {}
        self.keys: dict[AccountId, dict[str, Any]] = {}
        self.sockets: dict[AccountId, web.WebSocketResponse] = {}
        self.hellos = 0
        self.error: RaychatError | None = None
        """What every HTTP call fails with."""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, on the same port as before if it was stopped."""

        @web.middleware
        async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
            try:
                if self.error is not None and request.path != "/v1/socket":
                    raise self.error
                response: web.StreamResponse = await handler(request)
                return response
            except RaychatError as error:
                body = {"error": error.code, "detail": error.detail, "retryable": error.retryable}
                return web.json_response(body, status=503 if error.retryable else 400)

        app = web.Application(middlewares=[errors], client_max_size=1024 * 1024)
        app.router.add_post("/v1/registrations", self._begin)
        app.router.add_post("/v1/registrations/{id}/code", self._confirm)
        app.router.add_post("/v1/registrations/{id}/device", self._finish)
        app.router.add_post("/v1/lookup", self._lookup)
        app.router.add_get("/v1/keys", self._count)
        app.router.add_put("/v1/keys", self._put)
        app.router.add_get("/v1/keys/{account}", self._bundles)
        app.router.add_get("/v1/socket", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Drop every connection and listen no more."""
        for account in list(self.sockets):
            await self.drop(account)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def drop(self, account: AccountId, close: int = WSCloseCode.GOING_AWAY) -> None:
        socket = self.sockets.pop(account, None)
        if socket is not None:
            self.model.users[account].out = None
            await socket.close(code=close)

    async def say_goodbye(self, account: AccountId, goodbye: Goodbye, close: int) -> None:
        await self.sockets[account].send_bytes(frames.pack_goodbye(goodbye))
        await self.drop(account, close)

    # -- calls -----------------------------------------------------------------------------

    def _caller(self, request: web.Request) -> ServedUser:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        account, _, token = value.split(".")
        user = self.model.users[account_id(account)]
        given = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        if scheme != "Bearer" or given != bytes(user.token):
            raise BadToken
        return user

    async def _begin(self, request: web.Request) -> web.Response:
        key = secrets.token_urlsafe(8)
        self.registrations[key] = PhoneNumber((await request.json())["number"])
        body = {"registration": key, "digits": 6, "seconds": 600}
        return web.json_response(body, status=201)

    async def _confirm(self, request: web.Request) -> web.Response:
        if (await request.json())["code"] != CODE:
            raise BadCode
        return web.json_response({"verified": True})

    async def _finish(self, request: web.Request) -> web.Response:
        number = self.registrations[request.match_info["id"]]
        found = [user for user in self.model.users.values() if user.number == number]
        if found:
            user = found[0]
            user.incarnation += 1
            user.receipts.clear()
            await self.drop(user.account, Close.BAD_TOKEN)
        else:
            account = AccountId(uuid.uuid4().bytes)
            user = self.model.users[account] = ServedUser(account, number)
        user.token = Secret(secrets.token_bytes(32))
        self.keys[user.account] = (await request.json())["keys"]
        body = {
            "account": account_text(user.account),
            "device": 1,
            "incarnation": user.incarnation,
            "token": base64.urlsafe_b64encode(user.token).rstrip(b"=").decode(),
        }
        return web.json_response(body, status=201)

    async def _lookup(self, request: web.Request) -> web.Response:
        self._caller(request)
        number = (await request.json())["number"]
        for user in self.model.users.values():
            if user.number == number:
                return web.json_response({"account": account_text(user.account)})
        raise NotFound

    async def _count(self, request: web.Request) -> web.Response:
        keys = self.keys[self._caller(request).account]
        body = {name: len(keys[name]) for name in ("pre_keys", "kyber_pre_keys")}
        return web.json_response(body)

    async def _put(self, request: web.Request) -> web.Response:
        keys = self.keys[self._caller(request).account]
        given = (await request.json())["keys"]
        for name in ("pre_keys", "kyber_pre_keys"):
            known = {key["id"]: key for key in keys[name] + given.pop(name, [])}
            keys[name] = list(known.values())
        keys |= given
        return web.Response(status=204)

    async def _bundles(self, request: web.Request) -> web.Response:
        self._caller(request)
        account = account_id(request.match_info["account"])
        if account not in self.keys:
            raise NoKeys
        keys = self.keys[account]
        one_time, kyber = keys["pre_keys"], keys["kyber_pre_keys"]
        bundle = {
            "device": 1,
            "incarnation": self.model.users[account].incarnation,
            "registration_id": keys["registration_id"],
            "identity": keys["identity"],
            "signed_pre_key": keys["signed_pre_key"],
            "pre_key": one_time.pop(0) if one_time else None,
            "kyber_pre_key": kyber.pop(0) if kyber else keys["last_resort"],
        }
        return web.json_response({"devices": [bundle]})

    # -- the socket ------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(frames.SUBPROTOCOL,), compress=False)
        await socket.prepare(request)
        out = Outbound()
        writer = asyncio.create_task(self._write(socket, out))
        account: AccountId | None = None
        try:
            async for message in socket:
                assert message.type is WSMsgType.BINARY
                self.model.now = wall_ms()
                for raw in frames.split(message.data):
                    if account is None:
                        hello = frames.to_server(raw)
                        assert isinstance(hello, frames.Hello)
                        account = hello.account
                        self.hellos += 1
                        if account in self.sockets:
                            goodbye = Goodbye("replaced", "elsewhere", 0, 0)
                            await self.say_goodbye(account, goodbye, Close.REPLACED)
                        self.sockets[account] = socket
                        self.model.hello(hello, out)
                    else:
                        self.model.frame(account, raw)
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            if account is not None and self.sockets.get(account) is socket:
                del self.sockets[account]
                self.model.users[account].out = None
        return socket

    async def _write(self, socket: web.WebSocketResponse, out: Outbound) -> None:
        while True:
            await out.wake.wait()
            out.wake.clear()
            data = b"".join(out)
            out.clear()
            if data and not socket.closed:
                await socket.send_bytes(data)
