"""The Ray actors of hosts and accounts: thin shells that give them a process.

All are detached and named in namespace `raychat`, restart for ever, and never repeat a call by
themselves (`max_task_retries=0`: a call that raised may have run). They ask for no CPU but for a
resource of their role, so that an operator says where each role may run. No message passes
through a Ray call: see `link`.

After a restart Ray runs `__init__` and nothing else, so everything starts there.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
import structlog
from ray.actor import ActorHandle

from raychat import limits
from raychat.accounts import providers
from raychat.accounts.linking import Grant, LinkSessions
from raychat.accounts.service import Accounts, Begun
from raychat.accounts.store import SqliteAccountStore
from raychat.clock import wall_ms
from raychat.cluster.host import UserHost
from raychat.cluster.link import Links
from raychat.cluster.placement import Layout
from raychat.config import Placement, Providers
from raychat.errors import Fenced, Overloaded, RaychatError
from raychat.ids import AccountId, Secret
from raychat.keys.log import TransparencyLog
from raychat.observe import logs
from raychat.observe.metrics import HostMetrics
from raychat.observe.ray_sink import RaySink
from raychat.store.sqlite import LOG_PAGES, SMALL_LOG_PAGES, SqliteStore

log = structlog.get_logger("raychat.actor")

NAMESPACE: Final = "raychat"
ACCOUNTS: Final = "accounts"
ROLES: Final = ("gateway", "host", "accounts")
PUBLISH_SECONDS: Final = 1.0
DYING_SECONDS: Final = 1.0
"""An actor that cannot start lives on so long, to say why; then Ray starts it anew."""


def resource(role: str) -> str:
    """The custom resource an actor of this role takes one of."""
    return f"raychat_{role}"


class Place(NamedTuple):
    """What every actor of a deployment is told. Paths, not secrets: those stay in files."""

    data: Path
    sockets: Path
    layout: Layout
    log_level: str

    def secret(self) -> Secret:
        return Secret((self.data / "cluster.secret").read_bytes())

    def links(self, name: str) -> Links:
        return Links(name, self.sockets, self.secret())

    def store(self, host: str) -> Path:
        return self.data / "hosts" / f"{host}.db"


class Shell:
    """What all actors share: start in `__init__`, say when ready, publish metrics."""

    def begin(self, name: str, place: Place, work: Coroutine[Any, Any, None]) -> None:
        logs.configure(name, place.log_level)
        self._loop = asyncio.get_event_loop()
        self._started = self._loop.create_task(self._start_or_die(work))

    async def _start_or_die(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RaychatError as error:
            log.critical("actor cannot start", code=error.code)
            self._loop.call_later(DYING_SECONDS, os._exit, 1)
            raise
        except Exception:
            log.exception("actor cannot start")
            self._loop.call_later(DYING_SECONDS, os._exit, 1)
            raise
        log.info("actor serves")
        # What is alive now stays: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    async def ready(self) -> int:
        """Wait until it serves; returns its process id. Raises what kept it from starting."""
        await asyncio.shield(self._started)
        return os.getpid()


@ray.remote
class HostActor(Shell):
    """A UserHost in a process of its own."""

    def __init__(self, name: str, place: Place) -> None:
        self._name = name
        self._place = place
        self._metrics = HostMetrics()
        self.begin(name, place, self._start())

    async def _start(self) -> None:
        dedicated = self._place.layout.placement is Placement.DEDICATED
        pages = SMALL_LOG_PAGES if dedicated else LOG_PAGES
        store = SqliteStore(self._place.store(self._name), self._name, pages)
        links = self._place.links(self._name)
        self._host = UserHost(self._name, store, links, self._place.layout, self._metrics)
        await self._host.start()
        label = "user" if dedicated else self._name
        self._publisher = self._loop.create_task(self._publish(RaySink("host", label)))

    async def _publish(self, sink: RaySink) -> None:
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            self._metrics.publish(sink)
            if isinstance(self._host.failed, Fenced):
                os._exit(1)  # somebody else owns the store: Ray starts this actor anew

    async def health(self) -> dict[str, Any]:
        return self._host.health()

    async def drain(self) -> None:
        await self._host.drain()


@ray.remote
class AccountsActor(Shell):
    """Who has which account. Few calls: registrations and lookups, never messages."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._links = LinkSessions()
        self.begin(ACCOUNTS, place, self._start())

    async def _start(self) -> None:
        data = self._place.data
        chosen = Providers.kept(data)
        self._accounts = Accounts(
            SqliteAccountStore(data / "accounts.db"),
            providers.sender(chosen, data),
            challenge=providers.challenge(chosen),
            scale=chosen.budget_scale,
        )
        self._log = TransparencyLog(data / "transparency.db", data / "transparency.key")
        if self._place.layout.placement is Placement.DEDICATED:
            for account in await self._accounts.all_accounts():
                host_actor(self._place.layout.host_of(account), self._place)

    async def call(self, verb: str, *arguments: Any) -> tuple[str | None, Any]:
        """(None, result), or (error code, (sentence, data)): errors of ours are no tracebacks."""
        await asyncio.shield(self._started)
        try:
            return None, await getattr(self, f"_{verb}")(*arguments)
        except RaychatError as error:
            return error.code, (error.detail, error.data)

    async def _begin_registration(
        self, number: str, channel: str, address: str, answer: str | None
    ) -> Begun:
        return await self._accounts.start(number, channel, address, answer)

    async def _check(self, registration: str, code: str, address: str) -> None:
        await self._accounts.check(registration, code, address)

    async def _locked_holder(self, registration: str) -> AccountId | None:
        return await self._accounts.locked_holder(registration)

    async def _redeem(self, registration: str, pin: str | None) -> AccountId:
        return await self._accounts.redeem(registration, pin)

    async def _lookup(self, number: str, asker: AccountId, address: str) -> AccountId:
        return await self._accounts.lookup(number, asker, address)

    async def _see(self, account: AccountId, day: int) -> None:
        await self._accounts.see(account, day)

    async def _has_lock(self, account: AccountId) -> bool:
        return await self._accounts.has_lock(account)

    async def _set_lock(self, account: AccountId, pin: str) -> None:
        await self._accounts.set_lock(account, pin)

    async def _remove_lock(self, account: AccountId) -> None:
        await self._accounts.remove_lock(account)

    async def _change_number(
        self, account: AccountId, registration: str, pin: str | None
    ) -> AccountId | None:
        return await self._accounts.change_number(account, registration, pin)

    async def _remove(self, account: AccountId, pin: str | None) -> None:
        await self._accounts.remove(account, pin)

    async def _leaving(self) -> list[AccountId]:
        return await self._accounts.leaving()

    async def _gone(self, account: AccountId) -> None:
        await self._accounts.gone(account)

    async def _open_link(self, link: bytes, request: bytes, token_hash: bytes) -> int:
        return self._links.open(link, request, token_hash, wall_ms())

    async def _link_request(self, link: bytes) -> tuple[bytes, int]:
        return self._links.request(link, wall_ms())

    async def _answer_link(self, link: bytes, grant: Grant, message: bytes) -> None:
        self._links.answer(link, grant, message, wall_ms())

    async def _link_message(self, link: bytes, token_hash: bytes) -> bytes | None:
        return self._links.message(link, token_hash, wall_ms())

    async def _link_grant(self, link: bytes, token_hash: bytes) -> Grant:
        return self._links.grant(link, token_hash, wall_ms())

    async def _ensure_host(self, account: AccountId) -> None:
        """With dedicated placement: the account's own host exists and serves."""
        layout = self._place.layout
        if layout.placement is not Placement.DEDICATED:
            return
        if await self._accounts.count() > limits.DEDICATED_USERS:
            raise Overloaded("Dedicated placement is full; run with --placement sharded.")
        await host_actor(layout.host_of(account), self._place).ready.remote()

    async def _log_append(self, account: AccountId, data: bytes) -> None:
        await self._log.append(account, data)

    async def _log_prove(self, account: AccountId, since: int, known: int) -> bytes:
        return await self._log.prove(account, since, known)

    async def _log_state(self, since: int) -> bytes:
        return await self._log.state(since)

    async def drain(self) -> None:
        await self._log.close()
        await self._accounts.close()


def options(name: str, role: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": 0,
        "resources": {resource(role): 1},
        "max_concurrency": 256,
        "enable_task_events": False,
    }


def host_actor(name: str, place: Place) -> ActorHandle[Any]:
    return HostActor.options(**options(name, "host")).remote(name, place)  # type: ignore[attr-defined,no-any-return]


def accounts_actor(place: Place) -> ActorHandle[Any]:
    return AccountsActor.options(**options(ACCOUNTS, "accounts")).remote(place)  # type: ignore[attr-defined,no-any-return]
