"""What all calls of the HTTP API share: how they fail, who calls, what a body holds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final

import msgpack
import structlog
from aiohttp import web

from raychat import limits
from raychat.errors import (
    BadRequest,
    BadToken,
    ChallengeRequired,
    CodeExpired,
    Denied,
    LinkExpired,
    Locked,
    Malformed,
    NotFound,
    RateLimited,
    RaychatError,
    TooLarge,
    Unavailable,
)
from raychat.gateway.server import Gateway
from raychat.ids import MAX_DEVICE, AccountId, DeviceId, Secret, account_id

log = structlog.get_logger("raychat.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Route = tuple[str, str, Handler]
"""A method, a path and what answers it."""

STATUS: Final[tuple[tuple[type[RaychatError], int], ...]] = (
    (BadToken, 401),
    (CodeExpired, 410),
    (LinkExpired, 410),
    (ChallengeRequired, 428),
    (Locked, 423),
    (Denied, 403),
    (NotFound, 404),
    (TooLarge, 413),
    (RateLimited, 429),
    (Unavailable, 503),
    (BadRequest, 400),
)


def failure(error: RaychatError) -> web.Response:
    """An error as an answer, with what programs need to know about it beside the code."""
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 400)
    body = {"error": error.code, "detail": error.detail, "retryable": error.retryable}
    seconds = error.data.get("seconds")
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return web.json_response({**error.data, **body}, status=status, headers=headers)


def typed(handler: Handler) -> Handler:
    """Every failure of a call leaves as a code and a sentence; none leaves as a stack trace.

    A wrapper and not a middleware, which would stay in memory with every WebSocket.
    """

    async def call(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RaychatError as error:
            return failure(error)
        except web.HTTPRequestEntityTooLarge:
            return failure(TooLarge(f"A body is at most {limits.HTTP_BODY_BYTES} bytes."))
        except web.HTTPException as error:
            return failure(BadRequest(error.text))
        except Exception:
            log.exception("call failed", route=handler.__name__)
            return failure(Unavailable())

    return call


async def json_fields(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object. Raises Malformed."""
    try:
        body = await request.json()
    except (ValueError, LookupError, RecursionError) as error:
        raise Malformed("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Malformed("The body is a JSON object.")
    return body


def text_field(fields: dict[str, Any], name: str) -> str:
    """A short text of the body. Raises Malformed."""
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise Malformed(f"The field {name} is a short text.")
    return value


def bytes_field(fields: dict[str, Any], name: str) -> bytes:
    """Bytes of the body, in base64. Raises Malformed."""
    value = fields.get(name)
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except ValueError as error:
        raise Malformed(f"The field {name} is base64 of the standard alphabet, padded.") from error


def token_text(token: bytes) -> str:
    """A token as it is written in JSON and headers."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def packed_field(fields: dict[str, Any], name: str) -> bytes:
    """An object of the body, packed for the host that will look at it."""
    value = fields.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"The field {name} is an object.")
    try:
        packed: bytes = msgpack.packb(value)
    except (ValueError, OverflowError, TypeError) as error:
        raise Malformed(f"The field {name} holds numbers or text out of range.") from error
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


async def caller(gateway: Gateway, request: web.Request) -> tuple[AccountId, DeviceId]:
    """Who makes an authorised call. Raises BadToken, Unavailable."""
    account, device, token = bearer(request.headers.get("Authorization"))
    await gateway.request(account, "check", device, sha256(token).digest())
    return account, device
