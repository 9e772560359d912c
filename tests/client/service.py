"""The model server behind real sockets: PROTOCOL.md's HTTP calls and WebSocket, for one test."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from raychat.clock import wall_ms
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import BadCode, BadToken, Denied, LinkExpired, NoKeys, NotFound, RaychatError
from raychat.ids import PRIMARY, AccountId, PhoneNumber, Secret, account_id, account_text
from raychat.wire import frames
from raychat.wire.frames import Close, Goodbye
from tests.client.account_calls import AccountCalls
from tests.client.model import ServedDevice, ServedUser, Server

CODE = "123456"


class Outbound(deque[bytes]):
    """Frames for one socket; wakes its writer."""

    def __init__(self) -> None:
        super().__init__()
        self.wake = asyncio.Event()

    def append(self, frame: bytes) -> None:
        super().append(frame)
        self.wake.set()


@dataclass
class Link:
    """A link session."""

    request: str
    token: Secret
    answer: tuple[AccountId, int, str, str] | None = None
    """Account, device, list and message."""
    came: asyncio.Event = field(default_factory=asyncio.Event)


class Service:
    """A server on a port of this machine. Everything it keeps is in `model`."""

    def __init__(self) -> None:
        self.model = Server()
        self.url = ""
        self.port = 0
        self.registrations: dict[str, PhoneNumber] = {}
        self.links: dict[str, Link] = {}
        self.keys: dict[tuple[AccountId, int], dict[str, Any]] = {}
        self.sockets: dict[tuple[AccountId, int], web.WebSocketResponse] = {}
        self.accounts = AccountCalls(self.registrations, self._caller)
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
                body |= error.data
                return web.json_response(body, status=503 if error.retryable else 400)

        app = web.Application(middlewares=[errors], client_max_size=1024 * 1024)
        app.router.add_post("/v1/registrations", self._begin)
        app.router.add_post("/v1/registrations/{id}/code", self._confirm)
        app.router.add_post("/v1/registrations/{id}/account", self._account)
        app.router.add_post("/v1/registrations/{id}/device", self._finish)
        app.router.add_routes(self.accounts.routes())
        app.router.add_post("/v1/lookup", self._lookup)
        app.router.add_get("/v1/keys", self._count)
        app.router.add_put("/v1/keys", self._put)
        app.router.add_get("/v1/keys/{account}", self._bundles)
        app.router.add_get("/v1/devices", self._own_devices)
        app.router.add_put("/v1/devices", self._put_list)
        app.router.add_delete("/v1/devices/self", self._leave)
        app.router.add_get("/v1/devices/{account}", self._devices)
        app.router.add_post("/v1/token", self._rotate)
        app.router.add_put("/v1/blocks", self._block)
        app.router.add_post("/v1/links", self._open_link)
        app.router.add_get("/v1/links/{id}", self._link_request)
        app.router.add_put("/v1/links/{id}", self._answer_link)
        app.router.add_get("/v1/links/{id}/message", self._link_message)
        app.router.add_post("/v1/links/{id}/device", self._finish_link)
        app.router.add_get("/v1/socket", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Drop every connection and listen no more."""
        for account, device in list(self.sockets):
            await self.drop(account, device=device)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def drop(
        self, account: AccountId, close: int = WSCloseCode.GOING_AWAY, device: int = PRIMARY
    ) -> None:
        socket = self.sockets.pop((account, device), None)
        if socket is not None:
            known = self.model.users[account].devices.get(device)
            if known is not None:
                known.out = None
            await socket.close(code=close)

    async def say_goodbye(
        self, account: AccountId, goodbye: Goodbye, close: int, device: int = PRIMARY
    ) -> None:
        await self.sockets[account, device].send_bytes(frames.pack_goodbye(goodbye))
        await self.drop(account, close, device)

    # -- calls -----------------------------------------------------------------------------

    def _caller(self, request: web.Request) -> tuple[ServedUser, ServedDevice]:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        account, number, token = value.split(".")
        user = self.model.users[account_id(account)]
        device = user.devices.get(int(number))
        if scheme != "Bearer" or device is None or unpadded(token) not in device.tokens:
            raise BadToken
        return user, device

    async def _begin(self, request: web.Request) -> web.Response:
        fields = await request.json()
        self.accounts.begin(fields)
        key = secrets.token_urlsafe(8)
        self.registrations[key] = PhoneNumber(fields["number"])
        body = {"registration": key, "digits": 6, "seconds": 600}
        return web.json_response(body, status=201)

    async def _confirm(self, request: web.Request) -> web.Response:
        if (await request.json())["code"] != CODE:
            raise BadCode
        return web.json_response({"verified": True})

    async def _account(self, request: web.Request) -> web.Response:
        key = request.match_info["id"]
        user = self.model.user(self.registrations[key])
        self.accounts.redeem(key, user, (await request.json()).get("pin"))
        body = {"account": account_text(user.account), "list": text(user.signed)}
        return web.json_response(body)

    async def _finish(self, request: web.Request) -> web.Response:
        user = self.model.user(self.registrations[request.match_info["id"]])
        fields = await request.json()
        return await self._register(user, PRIMARY, fields["keys"], fields["list"], None)

    async def _register(
        self, user: ServedUser, device: int, keys: dict[str, Any], listed: str, signed: str | None
    ) -> web.Response:
        await self.drop(user.account, Close.BAD_TOKEN, device)
        served = self.model.register(user, device, base64.b64decode(listed))
        self.accounts.publish(user.account, base64.b64decode(listed))
        served.token = Secret(secrets.token_bytes(32))
        served.tokens = [served.token]
        self.keys[user.account, device] = keys | {"device_signature": signed}
        body = {
            "account": account_text(user.account),
            "device": device,
            "incarnation": served.incarnation,
            "token": url_text(served.token),
        }
        await self._let_go(user)
        return web.json_response(body, status=201)

    async def _let_go(self, user: ServedUser) -> None:
        for account, device in list(self.sockets):
            if account == user.account and device not in user.devices:
                await self.drop(account, Close.BAD_TOKEN, device)

    async def _lookup(self, request: web.Request) -> web.Response:
        self._caller(request)
        number = (await request.json())["number"]
        for user in self.model.users.values():
            if user.number == number:
                return web.json_response({"account": account_text(user.account)})
        raise NotFound

    # -- keys ------------------------------------------------------------------------------

    def _own_keys(self, request: web.Request) -> dict[str, Any]:
        user, device = self._caller(request)
        return self.keys[user.account, device.device]

    async def _count(self, request: web.Request) -> web.Response:
        keys = self._own_keys(request)
        body = {name: len(keys[name]) for name in ("pre_keys", "kyber_pre_keys")}
        return web.json_response(body)

    async def _put(self, request: web.Request) -> web.Response:
        keys = self._own_keys(request)
        given = (await request.json())["keys"]
        for name in ("pre_keys", "kyber_pre_keys"):
            known = {key["id"]: key for key in keys[name] + given.pop(name, [])}
            keys[name] = list(known.values())
        keys |= given
        return web.Response(status=204)

    async def _bundles(self, request: web.Request) -> web.Response:
        self._caller(request)
        user = self.model.users.get(account_id(request.match_info["account"]))
        if user is None:
            raise NoKeys
        some = request.query.get("devices")
        numbers = [int(n) for n in some.split(",")] if some else list(user.devices)
        bundles = [self._bundle(user, n) for n in numbers if n in user.devices]
        return web.json_response({"list": text(user.signed), "devices": bundles})

    def _bundle(self, user: ServedUser, device: int) -> dict[str, Any]:
        keys = self.keys[user.account, device]
        one_time, kyber = keys["pre_keys"], keys["kyber_pre_keys"]
        return {
            "device": device,
            "incarnation": user.devices[device].incarnation,
            "registration_id": keys["registration_id"],
            "identity": keys["identity"],
            "signed_pre_key": keys["signed_pre_key"],
            "pre_key": one_time.pop(0) if one_time else keys["last_resort_pre_key"],
            "kyber_pre_key": kyber.pop(0) if kyber else keys["last_resort"],
            "device_signature": keys["device_signature"],
        }

    # -- devices ---------------------------------------------------------------------------

    async def _own_devices(self, request: web.Request) -> web.Response:
        user, _ = self._caller(request)
        there = [
            {"device": n, "incarnation": d.incarnation, "seen_day": 20_000}
            for n, d in user.devices.items()
        ]
        return web.json_response({"list": text(user.signed), "devices": there})

    async def _devices(self, request: web.Request) -> web.Response:
        self._caller(request)
        user = self.model.users.get(account_id(request.match_info["account"]))
        if user is None:
            raise NotFound
        there = [{"device": n, "incarnation": d.incarnation} for n, d in user.devices.items()]
        return web.json_response({"list": text(user.signed), "devices": there})

    async def _put_list(self, request: web.Request) -> web.Response:
        user, device = self._caller(request)
        if device.device != PRIMARY:
            raise Denied
        listed = base64.b64decode((await request.json())["list"])
        self.model.put_list(user, listed)
        self.accounts.publish(user.account, listed)
        await self._let_go(user)
        return web.Response(status=204)

    async def _leave(self, request: web.Request) -> web.Response:
        user, device = self._caller(request)
        self.model.leave(user, device.device)
        await self._let_go(user)
        return web.Response(status=204)

    async def _rotate(self, request: web.Request) -> web.Response:
        _, device = self._caller(request)
        token = Secret(secrets.token_bytes(32))
        device.tokens.append(token)
        return web.json_response({"token": url_text(token)})

    async def _block(self, request: web.Request) -> web.Response:
        user, _ = self._caller(request)
        named = (await request.json())["accounts"]
        user.blocked = frozenset(account_id(each) for each in named)
        return web.Response(status=204)

    # -- links -----------------------------------------------------------------------------

    def _link(self, request: web.Request) -> Link:
        link = self.links.get(request.match_info["id"])
        if link is None:
            raise LinkExpired
        return link

    def _linking(self, request: web.Request) -> Link:
        link = self._link(request)
        if request.headers.get("Authorization") != f"Link {url_text(link.token)}":
            raise BadToken
        return link

    async def _open_link(self, request: web.Request) -> web.Response:
        fields = await request.json()
        token = Secret(secrets.token_bytes(32))
        self.links[fields["id"]] = Link(fields["request"], token)
        return web.json_response({"token": url_text(token), "seconds": 60}, status=201)

    async def _link_request(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.json_response({"request": self._link(request).request, "seconds": 50})

    async def _answer_link(self, request: web.Request) -> web.Response:
        user, device = self._caller(request)
        if device.device != PRIMARY:
            raise Denied
        fields, link = await request.json(), self._link(request)
        SignedDeviceList.parse(base64.b64decode(fields["list"])).verify(user.listed.account_key)
        link.answer = user.account, fields["device"], fields["list"], fields["message"]
        link.came.set()
        return web.Response(status=204)

    async def _link_message(self, request: web.Request) -> web.Response:
        link = self._linking(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(int(request.query["wait"])):
                await link.came.wait()
        if link.answer is None:
            return web.Response(status=204)
        return web.json_response({"message": link.answer[3]})

    async def _finish_link(self, request: web.Request) -> web.Response:
        link = self._linking(request)
        if link.answer is None:
            raise LinkExpired
        account, device, listed, _ = link.answer
        fields = await request.json()
        user = self.model.users[account]
        return await self._register(
            user, device, fields["keys"], listed, fields["device_signature"]
        )

    # -- the socket ------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(frames.SUBPROTOCOL,), compress=False)
        await socket.prepare(request)
        out = Outbound()
        writer = asyncio.create_task(self._write(socket, out))
        name: tuple[AccountId, int] | None = None
        try:
            async for message in socket:
                assert message.type is WSMsgType.BINARY
                self.model.now = wall_ms()
                for raw in frames.split(message.data):
                    if name is None:
                        hello = frames.to_server(raw)
                        assert isinstance(hello, frames.Hello)
                        name = hello.account, hello.device
                        self.hellos += 1
                        if name in self.sockets:
                            goodbye = Goodbye("replaced", "elsewhere", 0, 0)
                            await self.say_goodbye(name[0], goodbye, Close.REPLACED, name[1])
                        self.sockets[name] = socket
                        self.model.hello(hello, out)
                    else:
                        self.model.frame(*name, raw)
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            if name is not None and self.sockets.get(name) is socket:
                del self.sockets[name]
                device = self.model.users[name[0]].devices.get(name[1])
                if device is not None:
                    device.out = None
        return socket

    async def _write(self, socket: web.WebSocketResponse, out: Outbound) -> None:
        while True:
            await out.wake.wait()
            out.wake.clear()
            data = b"".join(out)
            out.clear()
            if data and not socket.closed:
                await socket.send_bytes(data)


def text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def url_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unpadded(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
