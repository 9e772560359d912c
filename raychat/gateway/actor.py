"""The Ray actor of a gateway. See `raychat.cluster.actors` for what all actors share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from ray.actor import ActorHandle

from raychat.accounts.linking import Grant
from raychat.accounts.service import Begun
from raychat.cluster.actors import ACCOUNTS, NAMESPACE, PUBLISH_SECONDS, Place, Shell, options
from raychat.config import Network, Settings
from raychat.errors import RaychatError, Unavailable, from_code
from raychat.gateway.api import Api
from raychat.gateway.api.accounts import leave
from raychat.gateway.api.addresses import Addresses
from raychat.gateway.server import Gateway
from raychat.gateway.session import Budget
from raychat.ids import AccountId
from raychat.observe.metrics import GatewayMetrics
from raychat.observe.ray_sink import RaySink

CALL_SECONDS: Final = 15.0
"""Longer than a challenge is checked and a code handed over."""

REMOVALS_SECONDS: Final = 60.0


class Edge(NamedTuple):
    """Where a gateway listens, and what it allows."""

    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None
    budget: Budget
    proxies: tuple[Network, ...] = ()


@ray.remote
class GatewayActor(Shell):
    """A gateway in a process of its own; several share a port by SO_REUSEPORT."""

    def __init__(self, name: str, place: Place, edge: Edge) -> None:
        self._name = name
        self._place = place
        self._edge = edge
        self._metrics = GatewayMetrics()
        self.begin(name, place, self._start())

    async def _start(self) -> None:
        links = self._place.links(self._name)
        self._gateway = Gateway(
            self._name, links, self._place.layout, self._metrics, self._edge.budget
        )
        self._registrar = RayRegistrar()
        api = Api(self._gateway, self._registrar, Addresses(self._edge.proxies))
        await self._gateway.start(api.app(), _listener(self._edge), _tls(self._edge), api.nothing)
        self._publisher = self._loop.create_task(self._publish(RaySink("gateway", self._name)))
        self._sweeper = self._loop.create_task(self._finish_removals())

    async def _publish(self, sink: RaySink) -> None:
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            self._metrics.publish(sink)

    async def _finish_removals(self) -> None:
        """Tell hosts of removed accounts what they were not told because somebody was down."""
        while True:
            await asyncio.sleep(REMOVALS_SECONDS)
            with contextlib.suppress(RaychatError):
                for account in await self._registrar.leaving():
                    await leave(self._gateway, self._registrar, account)

    async def health(self) -> dict[str, Any]:
        return self._gateway.health()

    async def drain(self) -> None:
        await self._gateway.drain()


class RayRegistrar:
    """The API's `Registrar`, by Ray calls to the accounts actor."""

    def __init__(self) -> None:
        self._actor: Any = None

    async def _call(self, verb: str, *arguments: Any) -> Any:
        try:
            if self._actor is None:
                self._actor = ray.get_actor(ACCOUNTS, namespace=NAMESPACE)
            async with asyncio.timeout(CALL_SECONDS):
                code, result = await self._actor.call.remote(verb, *arguments)
        except (ray.exceptions.RayError, ValueError, TimeoutError) as error:
            self._actor = None
            raise Unavailable from error
        if code is not None:
            raise from_code(code, *result)
        return result

    async def start(self, number: str, channel: str, address: str, answer: str | None) -> Begun:
        return Begun(*await self._call("begin_registration", number, channel, address, answer))

    async def check(self, registration: str, code: str, address: str) -> None:
        await self._call("check", registration, code, address)

    async def locked_holder(self, registration: str) -> AccountId | None:
        return _account(await self._call("locked_holder", registration))

    async def redeem(self, registration: str, pin: str | None) -> AccountId:
        return AccountId(await self._call("redeem", registration, pin))

    async def lookup(self, number: str, asker: AccountId, address: str) -> AccountId:
        return AccountId(await self._call("lookup", number, asker, address))

    async def see(self, account: AccountId, day: int) -> None:
        await self._call("see", account, day)

    async def has_lock(self, account: AccountId) -> bool:
        return bool(await self._call("has_lock", account))

    async def set_lock(self, account: AccountId, pin: str) -> None:
        await self._call("set_lock", account, pin)

    async def remove_lock(self, account: AccountId) -> None:
        await self._call("remove_lock", account)

    async def change_number(
        self, account: AccountId, registration: str, pin: str | None
    ) -> AccountId | None:
        return _account(await self._call("change_number", account, registration, pin))

    async def remove(self, account: AccountId, pin: str | None) -> None:
        await self._call("remove", account, pin)

    async def leaving(self) -> list[AccountId]:
        return [AccountId(account) for account in await self._call("leaving")]

    async def gone(self, account: AccountId) -> None:
        await self._call("gone", account)

    async def open_link(self, link: bytes, request: bytes, token_hash: bytes) -> int:
        return int(await self._call("open_link", link, request, token_hash))

    async def link_request(self, link: bytes) -> tuple[bytes, int]:
        request, seconds = await self._call("link_request", link)
        return request, seconds

    async def answer_link(self, link: bytes, grant: Grant, message: bytes) -> None:
        await self._call("answer_link", link, grant, message)

    async def link_message(self, link: bytes, token_hash: bytes) -> bytes | None:
        message: bytes | None = await self._call("link_message", link, token_hash)
        return message

    async def link_grant(self, link: bytes, token_hash: bytes) -> Grant:
        return Grant(*await self._call("link_grant", link, token_hash))

    async def log_append(self, account: AccountId, data: bytes) -> None:
        await self._call("log_append", account, data)

    async def log_prove(self, account: AccountId, since: int, known: int) -> bytes:
        return bytes(await self._call("log_prove", account, since, known))

    async def log_state(self, since: int) -> bytes:
        return bytes(await self._call("log_state", since))

    async def ready(self, account: AccountId) -> None:
        await self._call("ensure_host", account)


def _account(found: bytes | None) -> AccountId | None:
    return None if found is None else AccountId(found)


def gateway_actor(name: str, place: Place, settings: Settings, port: int) -> ActorHandle[Any]:
    """Make (or find) the gateway of that name, listening at `port`."""
    budget = Budget(settings.send_burst, settings.send_per_second)
    edge = Edge(
        settings.host, port, settings.tls_cert, settings.tls_key, budget, settings.trusted_proxies
    )
    return GatewayActor.options(**options(name, "gateway")).remote(name, place, edge)  # type: ignore[attr-defined,no-any-return]


def _listener(edge: Edge) -> socket.socket:
    family = socket.AF_INET6 if ":" in edge.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((edge.host, edge.port))
    return listener


def _tls(edge: Edge) -> ssl.SSLContext | None:
    if edge.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(edge.tls_cert, edge.tls_key)
    return context
