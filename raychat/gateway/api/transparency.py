"""Calls for the key-transparency log: its head, and what it has of an account."""

from __future__ import annotations

import base64
import re
import time
from math import ceil
from typing import Final, Protocol

from aiohttp import web

from raychat import limits
from raychat.budgets import Budget, Budgets
from raychat.errors import Malformed, RateLimited
from raychat.gateway.api.addresses import Addresses
from raychat.gateway.api.calls import Route, caller
from raychat.gateway.server import Gateway
from raychat.ids import AccountId, account_id

LOOKUPS: Final = Budget(limits.LOG_LOOKUPS, 1 / limits.LOG_LOOKUP_SECONDS)
HEADS: Final = Budget(limits.LOG_HEADS, 1 / limits.LOG_HEAD_SECONDS)
_NUMBER: Final = re.compile("[0-9]{1,15}")


class KeyLog(Protocol):
    """See `raychat.keys.log.TransparencyLog`, whose errors these raise."""

    async def log_append(self, account: AccountId, data: bytes) -> None: ...

    async def log_prove(self, account: AccountId, since: int, known: int) -> bytes: ...

    async def log_state(self, since: int) -> bytes: ...


class TransparencyCalls:
    """`/v1/transparency`."""

    def __init__(self, gateway: Gateway, log: KeyLog, addresses: Addresses) -> None:
        self._gateway = gateway
        self._log = log
        self._addresses = addresses
        self._lookups = Budgets(LOOKUPS)
        self._heads = Budgets(HEADS)

    def routes(self) -> list[Route]:
        return [
            ("GET", "/v1/transparency/head", self._head),
            ("GET", "/v1/transparency/{account}", self._account),
        ]

    async def _head(self, request: web.Request) -> web.Response:
        """For anybody, so that people who do not trust each other's server can compare heads."""
        _take(self._heads, self._addresses.of(request))
        return _proof(await self._log.log_state(_number(request, "since")))

    async def _account(self, request: web.Request) -> web.Response:
        asker, _ = await caller(self._gateway, request)
        try:
            account = account_id(request.match_info["account"])
        except ValueError as error:
            raise Malformed("An account is a UUID.") from error
        since, known = _number(request, "since"), _number(request, "known")
        _take(self._lookups, asker)
        return _proof(await self._log.log_prove(account, since, known))


def _take(budgets: Budgets, key: AccountId | str) -> None:
    wait = budgets.take(key, time.monotonic())
    if wait > 0:
        seconds = ceil(wait)
        raise RateLimited(
            f"The key log was asked too often; try again in {seconds} seconds.",
            {"seconds": seconds},
        )


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "0")
    if not _NUMBER.fullmatch(text):
        raise Malformed(f"{name} is a whole number.")
    return int(text)


def _proof(data: bytes) -> web.Response:
    return web.json_response({"proof": base64.b64encode(data).decode()})
