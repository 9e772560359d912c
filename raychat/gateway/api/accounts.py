"""Calls that lead to an account: registration and lookup."""

from __future__ import annotations

import base64
import secrets
from hashlib import sha256

from aiohttp import web

from raychat.gateway.api.calls import Route, caller, json_fields, packed_field, text_field
from raychat.gateway.api.registrar import Registrar
from raychat.gateway.server import Gateway
from raychat.ids import PRIMARY, account_text


class AccountCalls:
    """`/v1/registrations` and `/v1/lookup`."""

    def __init__(self, gateway: Gateway, registrar: Registrar) -> None:
        self._gateway = gateway
        self._registrar = registrar

    def routes(self) -> list[Route]:
        return [
            ("POST", "/v1/registrations", self._start),
            ("POST", "/v1/registrations/{registration}/code", self._code),
            ("POST", "/v1/registrations/{registration}/device", self._device),
            ("POST", "/v1/lookup", self._lookup),
        ]

    async def _start(self, request: web.Request) -> web.Response:
        number = text_field(await json_fields(request), "number")
        registration, digits, seconds = await self._registrar.start(number)
        body = {"registration": registration, "digits": digits, "seconds": seconds}
        return web.json_response(body, status=201)

    async def _code(self, request: web.Request) -> web.Response:
        code = text_field(await json_fields(request), "code")
        await self._registrar.check(request.match_info["registration"], code)
        return web.json_response({"verified": True})

    async def _device(self, request: web.Request) -> web.Response:
        keys = packed_field(await json_fields(request), "keys")
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
        await caller(self._gateway, request)
        number = text_field(await json_fields(request), "number")
        account = await self._registrar.lookup(number)
        return web.json_response({"account": account_text(account)})
