"""A UserHost: many Users in one process, run in turns.

One turn: take what the links have queued; run the Users it concerns (pure rules); write all
that must last in ONE store transaction; only then send anything. If the write fails, the Users
it touched are dropped from memory and the same events are tried again, so that nothing is ever
acknowledged that is not durable. Plain asyncio: Ray runs it (`actors`), tests do too.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any, Final

import structlog

from raychat import limits
from raychat.clock import Clock, wall_ms
from raychat.cluster.link import Link, Links
from raychat.cluster.placement import Layout
from raychat.errors import (
    BadToken,
    Fenced,
    Malformed,
    Overloaded,
    RaychatError,
    StoreError,
    WrongOwner,
)
from raychat.ids import AccountId, DeviceId
from raychat.keys.server import KeyServer
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import Owed, Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import (
    Acknowledge,
    Admit,
    Advance,
    Append,
    Attach,
    Detach,
    Dismiss,
    Effect,
    Event,
    Expire,
    Fetch,
    ForgetReceipts,
    Incoming,
    Page,
    Push,
    PutDevice,
    PutPeer,
    PutReceipt,
    Register,
    Session,
    Tell,
    Told,
    UserRecord,
    Waiting,
)
from raychat.users.user import User
from raychat.wire.batch import Item, Op
from raychat.wire.frames import Outcome

log = structlog.get_logger("raychat.host")

TURN_EVENTS: Final = 2_048
"""Events of one turn at most, so that a turn stays short."""

SWEEP_SECONDS: Final = 5.0
EXPIRY_SECONDS: Final = 60.0
EXPIRY_BOXES: Final = 1_000
RETRY_SECONDS: Final = 0.2
REQUESTS: Final = 256
"""Requests (keys, registrations) answered side by side."""

After = Callable[[], None]
Work = tuple[Event | None, After | None]


class UserHost:
    """Owns the Users whose accounts `layout` gives to `name`."""

    def __init__(
        self,
        name: str,
        store: SqliteStore,
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
        self._users: dict[AccountId, User] = {}
        self._work: deque[Work] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._in_flight: set[int] = set()
        self._paid: list[int] = []
        self._expiry_box = 0
        self._closing = False
        self.failed: RaychatError | None = None

    async def start(self) -> None:
        """Listen for links, send what is owed, take turns."""
        for owed in await self._store.owed(0, limits.INBOX_ENVELOPES):
            self._send_owed(owed)
        await self._links.listen(self._link_for)
        for job in (self._take_turns(), self._sweep(), self._expire()):
            self._tasks.add(asyncio.create_task(job))

    async def drain(self) -> None:
        """Finish what is queued, then close. Nothing that was acknowledged depends on this."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self._work or self._requests:
                    self._wake.set()
                    await asyncio.sleep(0.01)
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
            self._detach_all(link)

    @staticmethod
    def _is_host(name: str) -> bool:
        return not name.startswith("gateway-")

    def _detach_all(self, link: Link) -> None:
        for user in self._users.values():
            for device in user.devices.values():
                if device.session is not None and device.session.link is link:
                    device.leave()

    def _on_items(self, link: Link, items: list[Item], sequence: int) -> None:
        work = self._work
        for item in items:
            match item:
                case [Op.SEND, int(session), to, sender, device, incarnation, message, parts]:
                    reply = Session(link, session)
                    event = Incoming(to, reply, sender, device, incarnation, message, parts)
                    work.append((event, None))
                case [Op.ACK, int(session), account, device, upto, failed]:
                    event = Acknowledge(account, Session(link, session), device, upto, failed)
                    work.append((event, None))
                case [Op.ATTACH, int(session), account, device, token, seen, failed, revision]:
                    who = Session(link, session)
                    event = Attach(account, who, device, token, seen, failed, revision, (), ())
                    work.append((event, None))
                case [Op.DETACH, int(session), account, device]:
                    work.append((Detach(account, Session(link, session), device), None))
                case [Op.TOLD, int(owed), account, device, incarnation, peer, outcome, lo, hi]:
                    told = Told(account, device, incarnation, peer, Outcome(outcome), lo, hi)
                    work.append((told, lambda owed=owed: link.send((Op.PAID, owed))))  # type: ignore[misc]
                case [Op.PAID, int(owed)]:
                    self._pay(owed)
                case [Op.REQUEST, int(number), str(verb), account, arguments]:
                    self._request(link, number, verb, account, arguments)
                case _:
                    log.error("unknown link item", peer=link.name)
        work.append((None, lambda: link.done(sequence)))
        self._wake.set()

    # -- turns -----------------------------------------------------------------------------

    async def _take_turns(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._work:
                work = self._next_work()
                try:
                    await self._turn(work)
                except Fenced as error:
                    self.failed = error
                    log.critical("fenced: another process owns this store")
                    return
                except StoreError as error:
                    self.failed = error
                    log.error("turn not durable, trying again", code=error.code)
                    self._drop_users(work)
                    self._work.extendleft(reversed(work))
                    await asyncio.sleep(RETRY_SECONDS)
                except Exception:
                    # A fault in the rules must not stop all other Users. The batch is not
                    # acknowledged as done, so nothing is lost that was promised.
                    log.exception("turn failed")
                    self._metrics.failed_turns += 1
                    self._drop_users(work)
                    if len(work) > 1:
                        await self._one_by_one(work)
                else:
                    self.failed = None

    async def _one_by_one(self, work: list[Work]) -> None:
        """Find the event that the rules cannot bear, and leave it out."""
        for piece in work:
            try:
                await self._turn([piece])
            except StoreError:
                raise
            except Exception:
                log.exception("event left out", kind=type(piece[0]).__name__)
                self._drop_users([piece])

    def _next_work(self) -> list[Work]:
        """What the next turn does. An attach reads the store, so it begins a turn of its own
        when something of this turn may have changed what it would read."""
        queue = self._work
        if len(queue) <= TURN_EVENTS and not any(type(event) is Attach for event, _ in queue):
            work = list(queue)
            queue.clear()
            return work
        work, touched = [], set[AccountId]()
        while queue and len(work) < TURN_EVENTS:
            event = queue[0][0]
            if event is not None:
                if type(event) is Attach and event.account in touched:
                    break
                touched.add(event.account)
            work.append(queue.popleft())
        return work

    async def _turn(self, work: list[Work]) -> None:
        now = self._clock()
        events = [event for event, _ in work if event is not None]
        writes = Writes()
        writes.paid, self._paid = self._paid, []
        out: list[Effect] = []
        tells: list[Told] = []
        events = await self._prepare(events, now)
        users = self._users
        for event in events:
            self._sort(users[event.account].handle(event, now), writes, out, tells)
        if tells:
            await self._tell(tells, writes, out, now)
        if writes:
            started = perf_counter()
            await self._store.commit(writes)
            self._metrics.committed(
                len(events),
                perf_counter() - started,
                len(writes.appends),
                (advance.times for advance in writes.advances),
                now,
            )
            for put in writes.devices:
                users.pop(put.account, None)  # the store has named its inbox: load it again
        await self._emit(out)
        for _, after in work:
            if after is not None:
                after()
        for owed in writes.owed:
            self._send_owed(owed)

    async def _prepare(self, events: list[Any], now: int) -> list[Any]:
        """Load what the events need that is not in memory."""
        users = self._users
        missing = {event.account for event in events if event.account not in users}
        if missing:
            self._activate(await self._store.load(list(missing)), now)
        peers = []
        prepared = []
        for event in events:
            kind = type(event)
            if kind is Incoming:
                key = (event.sender, event.device)
                if not users[event.account].knows_peer(key):
                    peers.append((event.account, *key))
            elif kind is Told:
                await self._learn_receipts([event])
            elif kind is Attach:
                event = await self._with_waiting(event)  # noqa: PLW2901
            prepared.append(event)
        if peers:
            for key3, record in zip(peers, await self._store.peers(peers), strict=True):
                users[key3[0]].learn_peer(key3[1:], record)
        return prepared

    def _activate(self, records: Iterable[UserRecord], now: int) -> None:
        for record in records:
            self._users[record.account] = User(record, now)
            self._metrics.activated += 1

    async def _with_waiting(self, event: Attach) -> Attach:
        device = self._users[event.account].devices.get(event.device)
        if device is None:
            return event
        waiting = await self._store.page(device.box, device.cursor, limits.PUSH_WINDOW)
        receipts = await self._store.receipts_after(event.account, event.device, event.revision)
        return event._replace(waiting=waiting, receipts=receipts)

    async def _learn_receipts(self, told: Iterable[Told]) -> None:
        wanted = []
        for news in told:
            if not self._users[news.account].knows_receipts(news.receipt_key()):
                wanted.append((news.account, *news.receipt_key()))
        if wanted:
            for key, record in zip(wanted, await self._store.receipts(wanted), strict=True):
                self._users[key[0]].learn_receipts(key[1:], record)

    def _sort(
        self, effects: list[Effect], writes: Writes, out: list[Effect], tells: list[Told]
    ) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Append:
                writes.appends.append(effect)
            elif kind is Push:
                out.append(effect)
            elif kind is PutPeer:
                writes.peers[effect[:3]] = effect
            elif kind is Advance:
                writes.advances.append(effect)
            elif kind is Tell:
                tells.append(effect.told)
            elif kind is PutReceipt:
                writes.receipts[effect[:4]] = effect
            elif kind is PutDevice or kind is ForgetReceipts:
                writes.add(effect)
            else:
                out.append(effect)

    async def _tell(self, tells: list[Told], writes: Writes, out: list[Effect], now: int) -> None:
        """News of messages: to Users of this host in this very turn, to others durably owed."""
        here = []
        for told in tells:
            if self._layout.host_of(told.account) == self.name:
                here.append(told)
            else:
                writes.owed.append(Owed(self._store.next_owed(), told))
        missing = {told.account for told in here if told.account not in self._users}
        if missing:
            self._activate(await self._store.load(list(missing)), now)
        await self._learn_receipts(here)
        for told in here:
            self._sort(self._users[told.account].handle(told, now), writes, out, [])

    async def _emit(self, out: list[Effect]) -> None:
        fetches = []
        for effect in out:
            kind = type(effect)
            if kind is Push:
                (link, number), frame, revision = effect
                if revision:
                    link.send((17, number, frame, revision), len(frame))
                else:
                    link.send((16, number, frame), len(frame))
            elif kind is Fetch:
                fetches.append(effect)
            elif kind is Admit:
                (link, number), incarnation, frame = effect
                link.send((Op.ADMIT, number, incarnation, frame), len(frame))
            elif kind is Dismiss:
                (link, number), close, code, detail = effect
                link.send((Op.DISMISS, number, close, code, detail))
            elif kind is Waiting:
                self._metrics.waiting += 1
        for account, device, box, after, most in fetches:
            user = self._users.get(account)
            if user is not None:
                rows = await self._store.page(box, after, most)
                await self._emit(user.handle(Page(account, device, rows), self._clock()))
        if out:
            self._guard_links()

    def _guard_links(self) -> None:
        """A gateway that does not take what it is sent loses its connections; the devices come
        back, here or elsewhere, and get it all from their inboxes."""
        for link in self._links.all():
            if link.unsettled > 4 * limits.LINK_WINDOW_BYTES and not self._is_host(link.name):
                log.warning("gateway too slow, its sessions are dropped", peer=link.name)
                self._detach_all(link)
                link.forget()

    def _drop_users(self, work: Iterable[Work]) -> None:
        """Forget Users whose state in memory may be ahead of the store. Their connections are
        lost with them: the gateways attach them again."""
        accounts = {event.account for event, _ in work if event is not None}
        lost: list[Session] = []
        for account in accounts:
            user = self._users.pop(account, None)
            if user is not None:
                lost += [d.session for d in user.devices.values() if d.session is not None]
        for session in lost:
            session.link.send((Op.DISMISS, session.number, 1001, "unavailable", ""))

    # -- news for other hosts --------------------------------------------------------------

    def _send_owed(self, owed: Owed) -> None:
        link = self._links.dial(self._layout.host_of(owed.told.account), self._link_for)
        if not link.full:
            self._in_flight.add(owed.sequence)
            link.send((Op.TOLD, owed.sequence, *owed.told))

    def _pay(self, sequence: int) -> None:
        """Another host has the news: the next turn strikes it out."""
        self._in_flight.discard(sequence)
        self._paid.append(sequence)

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
        except RaychatError as error:
            link.send((Op.ANSWER, number, error.code, error.detail))
        except Exception:
            log.exception("request failed", verb=verb)
            error = Malformed("The request could not be carried out.")
            link.send((Op.ANSWER, number, error.code, error.detail))
        else:
            link.send((Op.ANSWER, number, None, result))

    async def _user(self, account: AccountId) -> User:
        user = self._users.get(account)
        if user is None:
            self._activate(await self._store.load([account]), self._clock())
            user = self._users[account]
        return user

    async def _check(self, account: AccountId, device: DeviceId, token_hash: bytes) -> None:
        """Whether a token is that of a device of ours. Raises BadToken."""
        user = await self._user(account)
        if not user.is_token(device, token_hash):
            raise BadToken

    async def _register(
        self, account: AccountId, device: DeviceId, token_hash: bytes, keys: bytes
    ) -> int:
        """A device with a new token, incarnation and keys; returns the incarnation."""
        vetted = await self._keys.vet(account, device, keys, registering=True)
        await self._store.forget_keys(account, device)  # nobody may start with the old ones
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work.append(
            (Register(account, device, token_hash), lambda: done.done() or done.set_result(None))
        )
        self._wake.set()
        await done
        await self._keys.keep(account, device, vetted)
        return (await self._user(account)).devices[device].incarnation

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
            idle_since = self._clock() - limits.IDLE_USER_SECONDS * 1000
            if len(self._users) > limits.ACTIVE_USERS:
                idle_since = self._clock()
            for number, user in enumerate(list(self._users.values())):
                if user.is_idle(idle_since):
                    del self._users[user.account]
                    self._metrics.passivated += 1
                elif user.used < idle_since:
                    user.rest()
                if number % 1000 == 999:
                    await asyncio.sleep(0)
            for owed in await self._store.owed(0, limits.EXPIRY_BATCH):
                if owed.sequence not in self._in_flight:
                    self._send_owed(owed)
            envelopes, size = await self._store.depth()
            self._metrics.gauges(
                users=len(self._users),
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
            self._work.append((Expire(account, device, rows), None))
        self._metrics.expired += sum(len(rows) for _, _, rows in found)
        self._wake.set()

    def health(self) -> dict[str, Any]:
        return {
            "host": self.name,
            "users": len(self._users),
            "queued": len(self._work),
            "epoch": self._store.epoch,
            "failed": self.failed.code if self.failed else None,
        }
