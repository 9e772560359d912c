"""The HTTP API: registration, lookup, keys and health. PROTOCOL.md section 4 describes it."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final, Protocol

import msgpack
import structlog
from aiohttp import web

from raychat import limits
from raychat.errors import (
    BadRequest,
    BadToken,
    CodeExpired,
    Denied,
    Malformed,
    NotFound,
    RateLimited,
    RaychatError,
    TooLarge,
    Unavailable,
)
from raychat.gateway.server import Gateway
from raychat.ids import MAX_DEVICE, PRIMARY, AccountId, DeviceId, Secret, account_id, account_text

log = structlog.get_logger("raychat.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Registrar(Protocol):
    """What the API needs of accounts/: see `raychat.accounts.service.Accounts`."""

    async def start(self, number: str) -> tuple[str, int, int]: ...

    async def check(self, registration: str, code: str) -> None: ...

    async def redeem(self, registration: str) -> AccountId: ...

    async def lookup(self, number: str) -> AccountId: ...

    async def ready(self, account: AccountId) -> None:
        """The host of a new account exists."""


STATUS: Final[tuple[tuple[type[RaychatError], int], ...]] = (
    (BadToken, 401),
    (CodeExpired, 410),
    (Denied, 403),
    (NotFound, 404),
    (TooLarge, 413),
    (RateLimited, 429),
    (Unavailable, 503),
    (BadRequest, 400),
)


def _failure(error: RaychatError) -> web.Response:
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 400)
    body = {"error": error.code, "detail": error.detail, "retryable": error.retryable}
    return web.json_response(body, status=status)


def _typed(handler: Handler) -> Handler:
    """Every failure of a call leaves as a code and a sentence; none leaves as a stack trace.

    A wrapper and not a middleware, which would stay in memory with every WebSocket.
    """

    async def call(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RaychatError as error:
            return _failure(error)
        except web.HTTPRequestEntityTooLarge:
            return _failure(TooLarge(f"A body is at most {limits.HTTP_BODY_BYTES} bytes."))
        except web.HTTPException as error:
            return _failure(BadRequest(error.text))
        except Exception:
            log.exception("call failed", route=handler.__name__)
            return _failure(Unavailable())

    return call


async def _fields(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, LookupError, RecursionError) as error:
        raise Malformed("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Malformed("The body is a JSON object.")
    return body


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise Malformed(f"The field {name} is a short text.")
    return value


def _keys(fields: dict[str, Any]) -> bytes:
    """The uploaded keys, packed for the host that will look at them."""
    keys = fields.get("keys")
    if not isinstance(keys, dict):
        raise Malformed("The field keys is an object.")
    try:
        packed: bytes = msgpack.packb(keys)
    except (ValueError, OverflowError, TypeError) as error:
        raise Malformed("The keys hold numbers or text out of range.") from error
    return packed


def bearer(header: str | None) -> tuple[AccountId, DeviceId, Secret]:
    """The parts of an Authorization header. Raises BadToken."""
    try:
        scheme, _, value = (header or "").partition(" ")
        account, device, token = value.split(".")
        secret = Secret(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if scheme == "Bearer" and len(secret) == 32 and 1 <= int(device) <= MAX_DEVICE:
            return account_id(account), DeviceId(int(device)), secret
    except (ValueError, binascii.Error):
        pass
    raise BadToken


class Api:
    """Handlers over a gateway (for the hosts) and a registrar (for accounts)."""

    def __init__(self, gateway: Gateway, registrar: Registrar) -> None:
        self._gateway = gateway
        self._registrar = registrar

    def app(self) -> web.Application:
        app = web.Application(client_max_size=limits.HTTP_BODY_BYTES)
        for method, path, handler in (
            ("POST", "/v1/registrations", self._start),
            ("POST", "/v1/registrations/{registration}/code", self._code),
            ("POST", "/v1/registrations/{registration}/device", self._device),
            ("POST", "/v1/lookup", self._lookup),
            ("GET", "/v1/keys", self._count_keys),
            ("PUT", "/v1/keys", self._put_keys),
            ("GET", "/v1/keys/{account}", self._bundles),
            ("GET", "/health", self._health),
        ):
            app.router.add_route(method, path, _typed(handler))
        return app

    async def _caller(self, request: web.Request) -> tuple[AccountId, DeviceId]:
        account, device, token = bearer(request.headers.get("Authorization"))
        await self._gateway.request(account, "check", device, sha256(token).digest())
        return account, device

    async def _start(self, request: web.Request) -> web.Response:
        number = _text(await _fields(request), "number")
        registration, digits, seconds = await self._registrar.start(number)
        body = {"registration": registration, "digits": digits, "seconds": seconds}
        return web.json_response(body, status=201)

    async def _code(self, request: web.Request) -> web.Response:
        code = _text(await _fields(request), "code")
        await self._registrar.check(request.match_info["registration"], code)
        return web.json_response({"verified": True})

    async def _device(self, request: web.Request) -> web.Response:
        keys = _keys(await _fields(request))
        account = await self._registrar.redeem(request.match_info["registration"])
        await self._registrar.ready(account)
        token = secrets.token_bytes(32)
        token_hash = sha256(token).digest()
        incarnation = await self._gateway.request(account, "register", PRIMARY, token_hash, keys)
        body = {
            "account": account_text(account),
            "device": PRIMARY,
            "incarnation": incarnation,
            "token": base64.urlsafe_b64encode(token).rstrip(b"=").decode(),
        }
        return web.json_response(body, status=201)

    async def _lookup(self, request: web.Request) -> web.Response:
        await self._caller(request)
        number = _text(await _fields(request), "number")
        account = await self._registrar.lookup(number)
        return web.json_response({"account": account_text(account)})

    async def _count_keys(self, request: web.Request) -> web.Response:
        account, device = await self._caller(request)
        pre_keys, kyber = await self._gateway.request(account, "count-keys", device)
        return web.json_response({"pre_keys": pre_keys, "kyber_pre_keys": kyber})

    async def _put_keys(self, request: web.Request) -> web.Response:
        account, device = await self._caller(request)
        keys = _keys(await _fields(request))
        await self._gateway.request(account, "put-keys", device, keys)
        return web.Response(status=204)

    async def _bundles(self, request: web.Request) -> web.Response:
        await self._caller(request)
        try:
            account = account_id(request.match_info["account"])
        except ValueError as error:
            raise Malformed("An account is a UUID.") from error
        return web.json_response({"devices": await self._gateway.request(account, "bundles")})

    @staticmethod
    async def nothing(_request: web.Request) -> web.Response:
        """Answers every path that no other call has."""
        return _failure(NotFound("There is no such call; see the protocol's table."))

    async def _health(self, _request: web.Request) -> web.Response:
        health = self._gateway.health()
        return web.json_response(health, status=200 if health["status"] == "ok" else 503)
