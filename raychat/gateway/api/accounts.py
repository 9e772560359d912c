"""Calls that lead to an account, and those about the account itself."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from aiohttp import web

from raychat import limits
from raychat.errors import Denied, Malformed, Unavailable
from raychat.gateway.api.addresses import Addresses
from raychat.gateway.api.calls import (
    Route,
    bytes_field,
    caller,
    json_fields,
    packed_field,
    text_field,
)
from raychat.gateway.api.registrar import Registrar
from raychat.gateway.api.transparency import KeyLog
from raychat.gateway.server import Gateway
from raychat.ids import PRIMARY, AccountId, account_text


class AccountCalls:
    """`/v1/registrations`, `/v1/lookup` and `/v1/account`."""

    def __init__(
        self, gateway: Gateway, registrar: Registrar, log: KeyLog, addresses: Addresses
    ) -> None:
        self._gateway = gateway
        self._registrar = registrar
        self._log = log
        self._addresses = addresses

    def routes(self) -> list[Route]:
        return [
            ("POST", "/v1/registrations", self._start),
            ("POST", "/v1/registrations/{registration}/code", self._code),
            ("POST", "/v1/registrations/{registration}/account", self._account),
            ("POST", "/v1/registrations/{registration}/device", self._device),
            ("POST", "/v1/lookup", self._lookup),
            ("GET", "/v1/account/lock", self._get_lock),
            ("PUT", "/v1/account/lock", self._put_lock),
            ("DELETE", "/v1/account/lock", self._delete_lock),
            ("POST", "/v1/account/number", self._number),
            ("DELETE", "/v1/account", self._delete),
        ]

    # -- registration and lookup -----------------------------------------------------------

    async def _start(self, request: web.Request) -> web.Response:
        fields = await json_fields(request)
        number = text_field(fields, "number")
        channel = text_field(fields, "channel") if "channel" in fields else "sms"
        begun = await self._registrar.start(
            number, channel, self._addresses.of(request), _answer(fields)
        )
        return web.json_response(begun._asdict(), status=201)

    async def _code(self, request: web.Request) -> web.Response:
        code = text_field(await json_fields(request), "code")
        registration = request.match_info["registration"]
        await self._registrar.check(registration, code, self._addresses.of(request))
        return web.json_response({"verified": True})

    async def _account(self, request: web.Request) -> web.Response:
        """What a device must know to sign the list that it registers with."""
        account = await self._redeem(request, await json_fields(request))
        listed, _ = await self._gateway.request(account, "devices")
        text = None if listed is None else base64.b64encode(listed).decode()
        return web.json_response({"account": account_text(account), "list": text})

    async def _device(self, request: web.Request) -> web.Response:
        fields = await json_fields(request)
        keys, listed = packed_field(fields, "keys"), bytes_field(fields, "list")
        account = await self._redeem(request, fields)
        token = secrets.token_bytes(32)
        entry = PRIMARY, sha256(token).digest(), keys, listed
        incarnation = await self._gateway.request(account, "register", *entry)
        await self._log.log_append(account, listed)  # if that fails, the call is made again
        body = {
            "account": account_text(account),
            "device": PRIMARY,
            "incarnation": incarnation,
            "token": base64.urlsafe_b64encode(token).rstrip(b"=").decode(),
        }
        return web.json_response(body, status=201)

    async def _redeem(self, request: web.Request, fields: dict[str, Any]) -> AccountId:
        registration = request.match_info["registration"]
        await self._see_holder(registration)
        account = await self._registrar.redeem(registration, _pin(fields))
        await self._registrar.ready(account)
        return account

    async def _see_holder(self, registration: str) -> None:
        """Before a lock is judged its account's host says when the account was last in use."""
        holder = await self._registrar.locked_holder(registration)
        if holder is not None:
            await self._registrar.ready(holder)
            _, devices = await self._gateway.request(holder, "devices")
            await self._registrar.see(holder, last_seen(devices))

    async def _lookup(self, request: web.Request) -> web.Response:
        asker, _ = await caller(self._gateway, request)
        number = text_field(await json_fields(request), "number")
        account = await self._registrar.lookup(number, asker, self._addresses.of(request))
        return web.json_response({"account": account_text(account)})

    # -- the account itself ----------------------------------------------------------------

    async def _get_lock(self, request: web.Request) -> web.Response:
        account, _ = await caller(self._gateway, request)
        return web.json_response({"locked": await self._registrar.has_lock(account)})

    async def _put_lock(self, request: web.Request) -> web.Response:
        account = await self._primary(request)
        pin = text_field(await json_fields(request), "pin")
        await self._registrar.set_lock(account, pin)
        return web.Response(status=204)

    async def _delete_lock(self, request: web.Request) -> web.Response:
        await self._registrar.remove_lock(await self._primary(request))
        return web.Response(status=204)

    async def _number(self, request: web.Request) -> web.Response:
        account = await self._primary(request)
        fields = await json_fields(request)
        registration = text_field(fields, "registration")
        await self._see_holder(registration)
        removed = await self._registrar.change_number(account, registration, _pin(fields))
        if removed is not None:
            await self._leave(removed)
        return web.json_response({"account": account_text(account)})

    async def _delete(self, request: web.Request) -> web.Response:
        account = await self._primary(request)
        fields = await json_fields(request) if request.can_read_body else {}
        await self._registrar.remove(account, _pin(fields))
        await self._leave(account)
        return web.Response(status=204)

    async def _leave(self, account: AccountId) -> None:
        # That it leaves is durable already: if its host is down, it is told later.
        try:
            await leave(self._gateway, self._registrar, account)
        except Unavailable:
            return

    async def _primary(self, request: web.Request) -> AccountId:
        account, device = await caller(self._gateway, request)
        if device != PRIMARY:
            raise Denied("Only the primary device may change the account; do it there.")
        return account


async def leave(gateway: Gateway, registrar: Registrar, account: AccountId) -> None:
    """Tell the host of a removed account, and the accounts that it knows. Raises Unavailable."""
    await gateway.request(account, "delete")
    await registrar.gone(account)


def last_seen(devices: Sequence[Sequence[int]]) -> int:
    """The last day (since 1970) on which one of the devices that a host names was connected."""
    return max((seen for _device, _incarnation, seen in devices), default=0)


def _pin(fields: dict[str, Any]) -> str | None:
    return text_field(fields, "pin") if fields.get("pin") is not None else None


def _answer(fields: dict[str, Any]) -> str | None:
    answer = fields.get("challenge")
    if answer is None:
        return None
    if not isinstance(answer, str) or not 0 < len(answer) <= limits.CHALLENGE_CHARS:
        raise Malformed("The field challenge is the answer to a challenge, a text.")
    return answer
