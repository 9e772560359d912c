"""Calls for the devices of an account: its signed list, leaving it, tokens, whom it blocks."""

from __future__ import annotations

import base64
import secrets
import time
from hashlib import sha256
from math import ceil
from typing import Any, Final

from aiohttp import web

from raychat import limits
from raychat.budgets import Budget, Budgets
from raychat.errors import Malformed, RateLimited, TooLarge
from raychat.gateway.api.calls import Route, bytes_field, caller, json_fields, token_text
from raychat.gateway.api.transparency import KeyLog
from raychat.gateway.server import Gateway
from raychat.ids import AccountId, account_id

LIST_FETCHES: Final = Budget(limits.LIST_FETCHES, 1 / limits.LIST_FETCH_SECONDS)


class DeviceCalls:
    """`/v1/devices`, `/v1/token` and `/v1/blocks`."""

    def __init__(self, gateway: Gateway, log: KeyLog) -> None:
        self._gateway = gateway
        self._log = log
        self._fetches = Budgets(LIST_FETCHES)

    def routes(self) -> list[Route]:
        return [
            ("GET", "/v1/devices", self._own),
            ("PUT", "/v1/devices", self._put),
            ("DELETE", "/v1/devices/self", self._leave),
            ("GET", "/v1/devices/{account}", self._of_others),
            ("POST", "/v1/token", self._rotate),
            ("PUT", "/v1/blocks", self._block),
        ]

    async def _own(self, request: web.Request) -> web.Response:
        account, _ = await caller(self._gateway, request)
        listed, devices = await self._gateway.request(account, "devices")
        known = [
            {"device": device, "incarnation": incarnation, "seen_day": seen}
            for device, incarnation, seen in devices
        ]
        return web.json_response({"list": _text(listed), "devices": known})

    async def _of_others(self, request: web.Request) -> web.Response:
        """The same of another account, without when its devices were there."""
        asking, _ = await caller(self._gateway, request)
        wait = self._fetches.take(asking, time.monotonic())
        if wait > 0:
            raise RateLimited(f"Device lists were fetched too often; wait {ceil(wait)} seconds.")
        account = _account(request.match_info["account"])
        listed, devices = await self._gateway.request(account, "devices")
        known = [
            {"device": device, "incarnation": incarnation} for device, incarnation, _ in devices
        ]
        return web.json_response({"list": _text(listed), "devices": known})

    async def _put(self, request: web.Request) -> web.Response:
        account, device = await caller(self._gateway, request)
        listed = bytes_field(await json_fields(request), "list")
        await self._gateway.request(account, "put-list", device, listed)
        await self._log.log_append(account, listed)  # if that fails, the call is made again
        return web.Response(status=204)

    async def _leave(self, request: web.Request) -> web.Response:
        account, device = await caller(self._gateway, request)
        await self._gateway.request(account, "remove", device)
        return web.Response(status=204)

    async def _rotate(self, request: web.Request) -> web.Response:
        account, device = await caller(self._gateway, request)
        token = secrets.token_bytes(32)
        await self._gateway.request(account, "rotate", device, sha256(token).digest())
        return web.json_response({"token": token_text(token)})

    async def _block(self, request: web.Request) -> web.Response:
        account, _ = await caller(self._gateway, request)
        accounts = (await json_fields(request)).get("accounts")
        if not isinstance(accounts, list):
            raise Malformed("The field accounts is a list.")
        if len(accounts) > limits.BLOCKED:
            raise TooLarge(f"An account blocks at most {limits.BLOCKED} others.")
        blocked = [_account(item) for item in accounts]
        await self._gateway.request(account, "block", blocked)
        return web.Response(status=204)


def _account(text: object) -> AccountId:
    try:
        return account_id(str(text))
    except ValueError as error:
        raise Malformed("An account is a UUID.") from error


def _text(data: Any) -> str | None:
    return base64.b64encode(data).decode() if data else None
