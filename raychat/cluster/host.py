"""A UserHost: many Users in one process. Plain asyncio: Ray runs it (`actors`), tests do too.

It listens for the links of gateways and other hosts, turns their items into events for the
Users (`turns`), answers requests for keys and registrations, and keeps house.
"""

from __future__ import annotations

import asyncio
import base64
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
from raychat.errors import (
    BadToken,
    Denied,
    ListStale,
    Malformed,
    Overloaded,
    RaychatError,
    TooLarge,
    Unavailable,
    WrongOwner,
)
from raychat.ids import PRIMARY, AccountId, DeviceId
from raychat.keys import devices
from raychat.keys.devices import VettedList
from raychat.keys.server import KeyServer, Vetted
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import HostStore, Owed
from raychat.users.events import (
    Acknowledge,
    Attach,
    Block,
    Delete,
    Detach,
    Event,
    Expire,
    Incoming,
    NewList,
    Register,
    Remove,
    Rotate,
    Session,
    Ticket,
    Told,
    UseToken,
)
from raychat.users.registry import DAY_MS
from raychat.wire.batch import Item, Op
from raychat.wire.frames import Outcome

log = structlog.get_logger("raychat.host")

SWEEP_SECONDS: Final = 5.0
EXPIRY_SECONDS: Final = 60.0
UNSEEN_SECONDS: Final = 600.0
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
        for job in (self.turns.run(), self._sweep(), self._expire(), self._remove_unseen()):
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
                case [Op.ACK, int(session), account, device, upto, untold]:
                    who = Session(link, session)
                    add(Acknowledge(account, who, device, upto, untold))
                case [Op.ATTACH, int(session), account, device, token, seen, untold, at, again]:
                    who = Session(link, session)
                    add(Attach(account, who, device, token, seen, untold, at, (), (), again))
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

    async def _ask(self, event_for: Callable[[Ticket], Event]) -> Any:
        """Have a User do something; returns, or raises, what it answers once that is durable."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(result: Any) -> None:
            if future.done():
                return
            if isinstance(result, RaychatError):
                future.set_exception(result)
            else:
                future.set_result(result)

        # Of a User that failed over it the event was left out: nobody else will answer.
        self.turns.add(event_for(answer), lambda: answer(Unavailable()))
        self.turns.begin()
        return await future

    async def _check(self, account: AccountId, device: DeviceId, token_hash: bytes) -> None:
        """Whether a token is that of a device of ours. Raises BadToken."""
        user = await self.turns.user(account)
        if not user.is_token(device, token_hash):
            raise BadToken
        if user.is_new_token(device, token_hash):
            await self._ask(lambda ticket: UseToken(account, device, token_hash, ticket))

    async def _register(
        self, account: AccountId, device: DeviceId, token_hash: bytes, keys: bytes, listed: bytes
    ) -> int:
        """The primary with a new token, incarnation and keys, and its list; every other device is
        removed. Returns the incarnation."""
        if device != PRIMARY:
            raise Malformed("Only the primary is registered without being linked.")
        vetted = await self._keys.vet(account, device, keys, registering=True)
        primary = devices.vet_primary(account, listed, vetted.identity.key)
        return await self._enter(account, device, token_hash, vetted, primary)

    async def _register_linked(
        self,
        account: AccountId,
        device: DeviceId,
        token_hash: bytes,
        keys: bytes,
        signature: bytes,
        listed: bytes,
    ) -> int:
        """A linked device, with the list of the primary's that names it; returns its
        incarnation."""
        vetted = await self._keys.vet(account, device, keys, True, signature)
        linked = devices.vet_linked(account, listed, device, vetted.identity.key, signature)
        await devices.check_identities(self._store, account, linked, device)
        return await self._enter(account, device, token_hash, vetted, linked)

    async def _enter(
        self,
        account: AccountId,
        device: DeviceId,
        token_hash: bytes,
        vetted: Vetted,
        listed: VettedList,
    ) -> int:
        async with self._keys.registering(account, device, vetted) as keys:
            box = self._store.next_box()
            registration = (account, device, token_hash, listed.record, keys, box)
            incarnation: int = await self._ask(lambda ticket: Register(*registration, ticket))
        return incarnation

    # -- the devices of an account ---------------------------------------------------------

    async def _vet_link(
        self, account: AccountId, caller: DeviceId, device: DeviceId, listed: bytes
    ) -> None:
        """Whether a list may bring a new device in, once that registers. Changes nothing."""
        vetted = await self._primary_list(account, caller, listed, device)
        user = await self.turns.user(account)
        if device not in vetted.identities:
            raise Malformed("The list does not name the device to be linked.")
        if device in user.devices:
            raise Malformed(f"There is a device {device} already; give the new one a free number.")
        if vetted.record.version <= user.list_version:
            raise ListStale

    async def _put_list(self, account: AccountId, caller: DeviceId, listed: bytes) -> None:
        """A newer list of the primary's; devices that are not in it are removed."""
        vetted = await self._primary_list(account, caller, listed)
        await self._ask(lambda ticket: NewList(account, vetted.record, ticket))

    async def _primary_list(
        self,
        account: AccountId,
        caller: DeviceId,
        listed: bytes,
        but: DeviceId | None = None,
    ) -> VettedList:
        if caller != PRIMARY:
            raise Denied("Only the primary device may change the device list.")
        vetted = devices.vet_list(account, listed)
        await devices.check_identities(self._store, account, vetted, but)
        return vetted

    async def _devices(self, account: AccountId) -> tuple[bytes | None, list[tuple[int, ...]]]:
        """The signed list, and (device, incarnation, day last seen) of each device."""
        user = await self.turns.user(account)
        known = sorted(user.devices.items())
        return (
            await self._store.device_list(account),
            [(number, device.incarnation, device.seen) for number, device in known],
        )

    async def _remove(self, account: AccountId, device: DeviceId) -> None:
        """A linked device leaves the account."""
        await self._ask(lambda ticket: Remove(account, device, ticket))

    async def _rotate(self, account: AccountId, device: DeviceId, token_hash: bytes) -> None:
        """A new token; the old one works until this one is used."""
        await self._ask(lambda ticket: Rotate(account, device, token_hash, ticket))

    async def _block(self, account: AccountId, blocked: list[AccountId]) -> None:
        """Just these accounts are blocked from now on."""
        if len(blocked) > limits.BLOCKED:
            raise TooLarge(f"An account blocks at most {limits.BLOCKED} others.")
        await self._ask(lambda ticket: Block(account, blocked, ticket))

    async def _delete(self, account: AccountId) -> None:
        """The account is no more."""
        await self._ask(lambda ticket: Delete(account, ticket))

    # -- keys ------------------------------------------------------------------------------

    async def _put_keys(self, account: AccountId, device: DeviceId, keys: bytes) -> None:
        await self._keys.put(account, device, keys, registering=False)

    async def _count_keys(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        return await self._keys.count(account, device)

    async def _bundles(
        self, account: AccountId, requester: AccountId, numbers: list[DeviceId] | None
    ) -> dict[str, Any]:
        """The signed device list and a bundle for each device, ready for JSON."""
        bundles = await self._keys.bundles(account, requester, numbers, self._clock())
        listed = await self._store.device_list(account)
        text = base64.b64encode(listed).decode() if listed is not None else None
        return {"list": text, "devices": bundles}

    _VERBS: Final[dict[str, Callable[..., Awaitable[Any]]]] = {
        "check": _check,
        "register": _register,
        "register-linked": _register_linked,
        "vet-link": _vet_link,
        "put-list": _put_list,
        "devices": _devices,
        "remove": _remove,
        "rotate": _rotate,
        "block": _block,
        "delete": _delete,
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

    async def _remove_unseen(self) -> None:
        """Remove linked devices that nobody uses any more."""
        while True:
            await asyncio.sleep(UNSEEN_SECONDS)
            await self.remove_unseen()

    async def remove_unseen(self) -> None:
        before = self._clock() // DAY_MS - limits.IDLE_DEVICE_DAYS
        for account, device in await self._store.unseen(before, limits.EXPIRY_BATCH):
            self.turns.add(Remove(account, device, unseen=before))
        self.turns.begin()

    def health(self) -> dict[str, Any]:
        return {
            "host": self.name,
            "users": len(self.turns.users),
            "queued": self.turns.waiting,
            "epoch": self._store.epoch,
            "failed": self.failed.code if self.failed else None,
        }
