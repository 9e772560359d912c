"""A UserHost: many Users in one process. Plain asyncio: Ray runs it (`actors`), tests do too.

It listens for the links of gateways and other hosts, turns their items into events for the
Users (`turns`), answers requests for keys and registrations, and keeps house.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from raychat import limits
from raychat.clock import Clock, wall_ms
from raychat.cluster.link import Link, Links
from raychat.cluster.placement import Layout
from raychat.cluster.turns import Turns
from raychat.errors import BadToken, Malformed, Overloaded, RaychatError, WrongOwner
from raychat.ids import AccountId, DeviceId
from raychat.keys.server import KeyServer
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import HostStore, Owed
from raychat.users.events import (
    Acknowledge,
    Attach,
    Detach,
    Expire,
    Incoming,
    Register,
    Session,
    Told,
)
from raychat.wire.batch import Item, Op
from raychat.wire.frames import Outcome

log = structlog.get_logger("raychat.host")

SWEEP_SECONDS: Final = 5.0
EXPIRY_SECONDS: Final = 60.0
EXPIRY_BOXES: Final = 1_000
DRAIN_SECONDS: Final = 5.0
REQUESTS: Final = 256
"""Requests (keys, registrations) answered side by side."""


class UserHost:
    """Owns the Users whose accounts `layout` gives to `name`."""

    def __init__(
        self,
        name: str,
        store: HostStore,
        links: Links,
        layout: Layout,
        metrics: HostMetrics,
        clock: Clock = wall_ms,
    ) -> None:
        self.name = name
        self._store = store
        self._links = links
        self._layout = layout
        self._metrics = metrics
        self._clock = clock
        self._keys = KeyServer(store)
        self.turns = Turns(name, store, layout, metrics, clock, self._send_owed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._in_flight: set[int] = set()
        self._expiry_box = 0
        self._closing = False

    @property
    def failed(self) -> RaychatError | None:
        """Why this host cannot make anything durable now, if so."""
        return self.turns.failed

    async def start(self) -> None:
        """Listen for links, send what is owed, take turns."""
        for owed in await self._store.owed(0, limits.INBOX_ENVELOPES):
            self._send_owed(owed)
        await self._links.listen(self._link_for)
        for job in (self.turns.run(), self._sweep(), self._expire()):
            self._tasks.add(asyncio.create_task(job))

    async def drain(self) -> None:
        """Finish what is queued, then close. Nothing that was acknowledged depends on this."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.turns.waiting or self._requests:
                    self.turns.begin()
                    await asyncio.sleep(0.01)
        await self.turns.stop(DRAIN_SECONDS)
        for task in (*self._tasks, *self._requests):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._requests, return_exceptions=True)
        await self._links.close()
        await self._store.close()

    # -- links -----------------------------------------------------------------------------

    def _link_for(self, name: str) -> Link:
        return Link(name, self._on_items, self._on_restart)

    def _on_restart(self, link: Link) -> None:
        """The process at the other end is a new one: what was meant for the old one is void,
        unless it is another host, to which news is owed all the same."""
        link.forget()
        if self._is_host(link.name):
            self._in_flight.clear()
        else:
            self.turns.detach_all(link)

    @staticmethod
    def _is_host(name: str) -> bool:
        return not name.startswith("gateway-")

    def _on_items(self, link: Link, items: list[Item], sequence: int) -> None:
        add = self.turns.add
        for item in items:
            match item:
                case [Op.SEND, int(session), to, sender, device, incarnation, message, parts]:
                    reply = Session(link, session)
                    add(Incoming(to, reply, sender, device, incarnation, message, parts))
                case [Op.ACK, int(session), account, device, upto, failed]:
                    who = Session(link, session)
                    add(Acknowledge(account, who, device, upto, failed))
                case [Op.ATTACH, int(session), account, device, token, seen, failed, at, again]:
                    who = Session(link, session)
                    add(Attach(account, who, device, token, seen, failed, at, (), (), again))
                case [Op.DETACH, int(session), account, device]:
                    add(Detach(account, Session(link, session), device))
                case [Op.TOLD, int(owed), account, device, incarnation, peer, outcome, lo, hi]:
                    told = Told(account, device, incarnation, peer, Outcome(outcome), lo, hi)
                    add(told, lambda owed=owed: link.send((Op.PAID, owed)))  # type: ignore[misc]
                case [Op.PAID, int(owed)]:
                    self._pay(owed)
                case [Op.REQUEST, int(number), str(verb), account, arguments]:
                    self._request(link, number, verb, account, arguments)
                case _:
                    log.error("unknown link item", peer=link.name)
        add(None, lambda: link.done(sequence))
        self.turns.begin()

    def _guard_links(self) -> None:
        """A gateway that does not take what it is sent loses its connections; the devices come
        back, here or elsewhere, and get it all from their inboxes."""
        for link in self._links.all():
            if link.unsettled > 4 * limits.LINK_WINDOW_BYTES and not self._is_host(link.name):
                log.warning("gateway too slow, its sessions are dropped", peer=link.name)
                self.turns.detach_all(link)
                link.begin_anew()

    # -- news for other hosts --------------------------------------------------------------

    def _send_owed(self, owed: Owed) -> None:
        link = self._links.dial(self._layout.host_of(owed.told.account), self._link_for)
        if not link.full:
            self._in_flight.add(owed.sequence)
            link.send((Op.TOLD, owed.sequence, *owed.told))

    def _pay(self, sequence: int) -> None:
        """Another host has the news: the next turn strikes it out."""
        self._in_flight.discard(sequence)
        self.turns.paid(sequence)

    # -- requests --------------------------------------------------------------------------

    def _request(
        self, link: Link, number: int, verb: str, account: AccountId, arguments: list[Any]
    ) -> None:
        if len(self._requests) >= REQUESTS or self._closing:
            error = Overloaded()
            link.send((Op.ANSWER, number, error.code, error.detail))
            return
        task = asyncio.create_task(self._answer(link, number, verb, account, arguments))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(
        self, link: Link, number: int, verb: str, account: AccountId, arguments: list[Any]
    ) -> None:
        try:
            if self._layout.host_of(account) != self.name:
                raise WrongOwner
            result = await self._VERBS[verb](self, account, *arguments)
        except Exception as error:
            if not isinstance(error, RaychatError):
                log.exception("request failed", verb=verb)
                error = Malformed("The request could not be carried out.")
            link.send((Op.ANSWER, number, error.code, error.detail))
        else:
            link.send((Op.ANSWER, number, None, result))

    async def _check(self, account: AccountId, device: DeviceId, token_hash: bytes) -> None:
        """Whether a token is that of a device of ours. Raises BadToken."""
        user = await self.turns.user(account)
        if not user.is_token(device, token_hash):
            raise BadToken

    async def _register(
        self, account: AccountId, device: DeviceId, token_hash: bytes, keys: bytes
    ) -> int:
        """A device with a new token, incarnation and keys; returns the incarnation."""
        vetted = await self._keys.vet(account, device, keys, registering=True)
        await self._store.forget_keys(account, device)  # nobody may start with the old ones
        done = asyncio.Event()
        self.turns.add(Register(account, device, token_hash), done.set)
        self.turns.begin()
        await done.wait()
        await self._keys.keep(account, device, vetted)
        return (await self.turns.user(account)).devices[device].incarnation

    async def _put_keys(self, account: AccountId, device: DeviceId, keys: bytes) -> None:
        await self._keys.put(account, device, keys, registering=False)

    async def _count_keys(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        return await self._keys.count(account, device)

    async def _bundles(self, account: AccountId) -> list[dict[str, Any]]:
        return await self._keys.bundles(account)

    _VERBS: Final[dict[str, Callable[..., Awaitable[Any]]]] = {
        "check": _check,
        "register": _register,
        "put-keys": _put_keys,
        "count-keys": _count_keys,
        "bundles": _bundles,
    }

    # -- housekeeping ----------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Let idle Users leave memory, and send again what is owed and not on its way."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            full = len(self.turns.users) > limits.ACTIVE_USERS
            await self.turns.passivate(
                self._clock() - (0 if full else limits.IDLE_USER_SECONDS * 1000)
            )
            self._guard_links()
            for owed in await self._store.owed(0, limits.EXPIRY_BATCH):
                if owed.sequence not in self._in_flight:
                    self._send_owed(owed)
            envelopes, size = await self._store.depth()
            self._metrics.gauges(
                users=len(self.turns.users),
                inbox=envelopes,
                store_bytes=size,
                links={link.name: link.unsettled for link in self._links.all()},
            )
            gc.collect(0)

    async def _expire(self) -> None:
        """Walk the inboxes for envelopes that have outlived the retention."""
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            await self.expire_some()

    async def expire_some(self) -> None:
        before = self._clock() - limits.RETENTION_DAYS * 86_400_000
        self._expiry_box, found = await self._store.oldest(
            self._expiry_box, EXPIRY_BOXES, before, limits.EXPIRY_BATCH
        )
        for account, device, rows in found:
            self.turns.add(Expire(account, device, rows))
        self._metrics.expired += sum(len(rows) for _, _, rows in found)
        self.turns.begin()

    def health(self) -> dict[str, Any]:
        return {
            "host": self.name,
            "users": len(self.turns.users),
            "queued": self.turns.waiting,
            "epoch": self._store.epoch,
            "failed": self.failed.code if self.failed else None,
        }
