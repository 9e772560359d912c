"""The Ray actor of a gateway. See `raychat.cluster.actors` for what all actors share."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from ray.actor import ActorHandle

from raychat.cluster.actors import ACCOUNTS, NAMESPACE, PUBLISH_SECONDS, Place, Shell, options
from raychat.config import Settings
from raychat.errors import Unavailable, from_code
from raychat.gateway.api import Api
from raychat.gateway.server import Gateway
from raychat.gateway.session import Budget
from raychat.ids import AccountId
from raychat.observe.metrics import GatewayMetrics
from raychat.observe.ray_sink import RaySink

CALL_SECONDS: Final = 10.0


class Edge(NamedTuple):
    """Where a gateway listens, and what it allows."""

    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None
    budget: Budget


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
        api = Api(self._gateway, RayRegistrar())
        await self._gateway.start(api.app(), _listener(self._edge), _tls(self._edge), api.nothing)
        self._publisher = self._loop.create_task(self._publish(RaySink("gateway", self._name)))

    async def _publish(self, sink: RaySink) -> None:
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            self._metrics.publish(sink)

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
            raise from_code(code, result)
        return result

    async def start(self, number: str) -> tuple[str, int, int]:
        registration, digits, seconds = await self._call("begin_registration", number)
        return registration, digits, seconds

    async def check(self, registration: str, code: str) -> None:
        await self._call("check", registration, code)

    async def redeem(self, registration: str) -> AccountId:
        return AccountId(await self._call("redeem", registration))

    async def lookup(self, number: str) -> AccountId:
        return AccountId(await self._call("lookup", number))

    async def ready(self, account: AccountId) -> None:
        await self._call("ensure_host", account)


def gateway_actor(name: str, place: Place, settings: Settings, port: int) -> ActorHandle[Any]:
    """Make (or find) the gateway of that name, listening at `port`."""
    budget = Budget(settings.send_burst, settings.send_per_second)
    edge = Edge(settings.host, port, settings.tls_cert, settings.tls_key, budget)
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
