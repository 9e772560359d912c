"""Calls for keys: a device's own, and bundles to write to others."""

from __future__ import annotations

import re
import time
from math import ceil
from typing import Final

from aiohttp import web

from raychat import limits
from raychat.budgets import Budget, Budgets
from raychat.errors import Malformed, RateLimited
from raychat.gateway.api.calls import Route, caller, json_fields, packed_field
from raychat.gateway.server import Gateway
from raychat.ids import MAX_DEVICE, DeviceId, account_id

_NUMBER: Final = re.compile("[0-9]{1,3}")
UPLOADS: Final = Budget(limits.KEY_UPLOADS, 1 / limits.KEY_UPLOAD_SECONDS)


class KeyCalls:
    """`/v1/keys`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._uploads = Budgets(UPLOADS)

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
        wait = self._uploads.take((account, device), time.monotonic())
        if wait > 0:
            seconds = ceil(wait)
            raise RateLimited(
                f"Keys were uploaded too often; try again in {seconds} seconds.",
                {"seconds": seconds},
            )
        keys = packed_field(await json_fields(request), "keys")
        await self._gateway.request(account, "put-keys", device, keys)
        return web.Response(status=204)

    async def _bundles(self, request: web.Request) -> web.Response:
        requester, _ = await caller(self._gateway, request)
        try:
            account = account_id(request.match_info["account"])
        except ValueError as error:
            raise Malformed("An account is a UUID.") from error
        devices = device_numbers(request.query.get("devices"))
        answer = await self._gateway.request(account, "bundles", requester, devices)
        # A host gives the account's signed list beside the bundles.
        body = answer if isinstance(answer, dict) else {"devices": answer}
        return web.json_response(body)


def device_numbers(text: str | None) -> list[DeviceId] | None:
    """The query `devices=2,3`; None without one, which means all. Raises Malformed."""
    if text is None:
        return None
    parts = text.split(",")
    numbers = [int(part) if _NUMBER.fullmatch(part) else 0 for part in parts]
    if len(parts) > MAX_DEVICE or not all(1 <= number <= MAX_DEVICE for number in numbers):
        raise Malformed(f"devices are numbers from 1 to {MAX_DEVICE} with commas between.")
    return [DeviceId(number) for number in numbers]
