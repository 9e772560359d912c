"""Calls for keys: a device's own, and bundles to write to others."""

from __future__ import annotations

from aiohttp import web

from raychat.errors import Malformed
from raychat.gateway.api.calls import Route, caller, json_fields, packed_field
from raychat.gateway.server import Gateway
from raychat.ids import account_id


class KeyCalls:
    """`/v1/keys`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        return [
            ("GET", "/v1/keys", self._count),
            ("PUT", "/v1/keys", self._put),
            ("GET", "/v1/keys/{account}", self._bundles),
        ]

    async def _count(self, request: web.Request) -> web.Response:
        account, device = await caller(self._gateway, request)
        pre_keys, kyber = await self._gateway.request(account, "count-keys", device)
        return web.json_response({"pre_keys": pre_keys, "kyber_pre_keys": kyber})

    async def _put(self, request: web.Request) -> web.Response:
        account, device = await caller(self._gateway, request)
        keys = packed_field(await json_fields(request), "keys")
        await self._gateway.request(account, "put-keys", device, keys)
        return web.Response(status=204)

    async def _bundles(self, request: web.Request) -> web.Response:
        await caller(self._gateway, request)
        try:
            account = account_id(request.match_info["account"])
        except ValueError as error:
            raise Malformed("An account is a UUID.") from error
        return web.json_response({"devices": await self._gateway.request(account, "bundles")})
