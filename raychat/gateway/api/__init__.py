"""The HTTP API: a module for each room it opens. PROTOCOL.md section 4 describes it."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from raychat import limits
from raychat.errors import NotFound
from raychat.gateway.api.accounts import AccountCalls
from raychat.gateway.api.addresses import Addresses
from raychat.gateway.api.calls import Route, failure, typed
from raychat.gateway.api.devices import DeviceCalls
from raychat.gateway.api.keys import KeyCalls
from raychat.gateway.api.links import LinkCalls, Links
from raychat.gateway.api.registrar import Registrar
from raychat.gateway.api.transparency import KeyLog, TransparencyCalls
from raychat.gateway.server import Gateway


class Calls(Protocol):
    """The calls of one room."""

    def routes(self) -> list[Route]: ...


class Back(Registrar, Links, KeyLog, Protocol):
    """The registrar with its links and the key log."""


class Api:
    """Handlers over a gateway (for the hosts) and a registrar (for accounts)."""

    def __init__(
        self, gateway: Gateway, registrar: Back, addresses: Addresses | None = None
    ) -> None:
        addresses = addresses or Addresses()
        self._gateway = gateway
        self._rooms: list[Calls] = [
            AccountCalls(gateway, registrar, registrar, addresses),
            DeviceCalls(gateway, registrar),
            LinkCalls(gateway, registrar, registrar, addresses),
            KeyCalls(gateway),
            TransparencyCalls(gateway, registrar, addresses),
        ]

    def app(self) -> web.Application:
        app = web.Application(client_max_size=limits.HTTP_BODY_BYTES)
        for room in self._rooms:
            for method, path, handler in room.routes():
                app.router.add_route(method, path, typed(handler))
        app.router.add_route("GET", "/health", typed(self._health))
        return app

    @staticmethod
    async def nothing(_request: web.Request) -> web.Response:
        """Answers every path that no other call has."""
        return failure(NotFound("There is no such call; see the protocol's table."))

    async def _health(self, _request: web.Request) -> web.Response:
        health = self._gateway.health()
        return web.json_response(health, status=200 if health["status"] == "ok" else 503)
