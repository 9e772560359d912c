"""Calls with which a new device and a primary find one another: see `accounts.linking`.

The new device has a token for its link, and no account yet; a budget per address keeps anybody
from filling the table of links, and one per account from looking for other people's.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
from hashlib import sha256
from math import ceil
from typing import Final, Protocol

from aiohttp import web

from raychat import limits
from raychat.accounts.linking import ID_BYTES, Grant
from raychat.budgets import Budget, Budgets
from raychat.errors import BadToken, Denied, Malformed, RateLimited
from raychat.gateway.api.addresses import Addresses
from raychat.gateway.api.calls import (
    Route,
    bytes_field,
    caller,
    json_fields,
    packed_field,
    token_text,
)
from raychat.gateway.api.transparency import KeyLog
from raychat.gateway.server import Gateway
from raychat.ids import MAX_DEVICE, PRIMARY, DeviceId, account_text

BEGINS: Final = Budget(limits.LINK_BEGINS, 1 / limits.LINK_BEGIN_SECONDS)
LOOKS: Final = Budget(limits.LINK_LOOKS, 1 / limits.LINK_LOOK_SECONDS)
ASK_SECONDS: Final = 0.5
"""How often the gateway looks whether an answer has come, for a device that waits."""


class Links(Protocol):
    """See `raychat.accounts.linking.LinkSessions`, whose errors these raise."""

    async def open_link(self, link: bytes, request: bytes, token_hash: bytes) -> int: ...

    async def link_request(self, link: bytes) -> tuple[bytes, int]: ...

    async def answer_link(self, link: bytes, grant: Grant, message: bytes) -> None: ...

    async def link_message(self, link: bytes, token_hash: bytes) -> bytes | None: ...

    async def link_grant(self, link: bytes, token_hash: bytes) -> Grant: ...


class LinkCalls:
    """`/v1/links`."""

    def __init__(self, gateway: Gateway, links: Links, log: KeyLog, addresses: Addresses) -> None:
        self._gateway = gateway
        self._links = links
        self._log = log
        self._addresses = addresses
        self._begins = Budgets(BEGINS)
        self._looks = Budgets(LOOKS, fails="closed")
        self._waiting: dict[bytes, object] = {}
        """Who waits for the answer of each link: the newest call, older ones end."""

    def routes(self) -> list[Route]:
        return [
            ("POST", "/v1/links", self._open),
            ("GET", "/v1/links/{link}", self._look),
            ("PUT", "/v1/links/{link}", self._answer),
            ("GET", "/v1/links/{link}/message", self._message),
            ("POST", "/v1/links/{link}/device", self._device),
        ]

    # -- the new device --------------------------------------------------------------------

    async def _open(self, request: web.Request) -> web.Response:
        wait = self._begins.take(self._addresses.of(request), time.monotonic())
        if wait > 0:
            raise RateLimited(f"Too many links were begun; try again in {ceil(wait)} seconds.")
        fields = await json_fields(request)
        link = _link(fields.get("id"))
        token = secrets.token_bytes(32)
        sealed = bytes_field(fields, "request")
        seconds = await self._links.open_link(link, sealed, sha256(token).digest())
        return web.json_response({"token": token_text(token), "seconds": seconds}, status=201)

    async def _message(self, request: web.Request) -> web.Response:
        link, token_hash = _own_link(request)
        wait = request.query.get("wait", "0")
        if not (wait.isascii() and wait.isdigit() and len(wait) < 9):
            raise Malformed("wait is a number of seconds.")
        until = time.monotonic() + min(int(wait), limits.LINK_WAIT_SECONDS)
        me = self._waiting[link] = object()
        try:
            while True:
                message = await self._links.link_message(link, token_hash)
                if message is not None:
                    return web.json_response({"message": base64.b64encode(message).decode()})
                if self._waiting.get(link) is not me or time.monotonic() >= until:
                    return web.Response(status=204)
                await asyncio.sleep(ASK_SECONDS)
        finally:
            if self._waiting.get(link) is me:
                del self._waiting[link]

    async def _device(self, request: web.Request) -> web.Response:
        link, token_hash = _own_link(request)
        fields = await json_fields(request)
        keys, signature = packed_field(fields, "keys"), bytes_field(fields, "device_signature")
        account, device, listed = await self._links.link_grant(link, token_hash)
        token = secrets.token_bytes(32)
        incarnation = await self._gateway.request(
            account,
            "register-linked",
            device,
            sha256(token).digest(),
            keys,
            signature,
            listed,
        )
        await self._log.log_append(account, listed)  # if that fails, the call is made again
        body = {
            "account": account_text(account),
            "device": device,
            "incarnation": incarnation,
            "token": token_text(token),
        }
        return web.json_response(body, status=201)

    # -- the primary -----------------------------------------------------------------------

    async def _look(self, request: web.Request) -> web.Response:
        account, device = await caller(self._gateway, request)
        if device != PRIMARY:
            raise Denied("Only the primary device links others.")
        wait = self._looks.take(account, time.monotonic())
        if wait > 0:
            raise RateLimited(f"Too many links were read; try again in {ceil(wait)} seconds.")
        sealed, seconds = await self._links.link_request(_link(request.match_info["link"]))
        body = {"request": base64.b64encode(sealed).decode(), "seconds": seconds}
        return web.json_response(body)

    async def _answer(self, request: web.Request) -> web.Response:
        account, caller_device = await caller(self._gateway, request)
        link = _link(request.match_info["link"])
        fields = await json_fields(request)
        device = fields.get("device")
        if type(device) is not int or not PRIMARY < device <= MAX_DEVICE:
            raise Malformed(f"A linked device is a number from 2 to {MAX_DEVICE}.")
        listed, message = bytes_field(fields, "list"), bytes_field(fields, "message")
        await self._gateway.request(account, "vet-link", caller_device, device, listed)
        await self._links.answer_link(link, Grant(account, DeviceId(device), listed), message)
        return web.Response(status=204)


def _link(value: object) -> bytes:
    """The id of a link in a path or a body: 10 hexadecimal digits."""
    try:
        link = bytes.fromhex(value) if isinstance(value, str) and value.isalnum() else b""
    except ValueError:
        link = b""
    if len(link) != ID_BYTES:
        raise Malformed(f"The id of a link is {2 * ID_BYTES} hexadecimal digits.")
    return link


def _own_link(request: web.Request) -> tuple[bytes, bytes]:
    """The link of a new device and the hash of the token it shows. Raises BadToken, Malformed."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    try:
        token = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (ValueError, binascii.Error):
        token = b""
    if scheme != "Link" or len(token) != 32:
        raise BadToken("A new device shows the token of its link.")
    return _link(request.match_info["link"]), sha256(token).digest()
