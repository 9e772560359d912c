"""The turns of a host: think, commit, emit.

What the links bring is queued. *Thinking* runs the Users it concerns (pure rules) and gathers
their effects in the open turn. *Committing* closes that turn and writes all of it that must
last in one store transaction. Only then is it *emitted*: acknowledgements, envelopes, receipts.
While a commit waits for the disk the next turn is already being thought about, so the more there
is to do, the more a commit carries; at rest a turn carries one message. The same code.

A User in memory may thus be one turn ahead of the store, but nothing of that has been said to
anybody. If a commit fails, the Users of both turns are dropped, and the same events are tried
again from what the store has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final

import structlog

from raychat import limits
from raychat.clock import Clock
from raychat.cluster.link import Link
from raychat.cluster.placement import Layout
from raychat.errors import Fenced, RaychatError, StoreError
from raychat.ids import AccountId
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import InboxStore, Owed, Writes
from raychat.users.events import (
    Admit,
    Advance,
    Answer,
    Append,
    Attach,
    Dismiss,
    Effect,
    Event,
    Fetch,
    Incoming,
    Page,
    Push,
    PutPeer,
    PutReceipt,
    Session,
    Tell,
    Told,
    UserRecord,
    Waiting,
)
from raychat.users.user import User
from raychat.wire.batch import Op
from raychat.wire.frames import Close

log = structlog.get_logger("raychat.turns")

THINK_EVENTS: Final = 1_024
"""Events thought about before others of the process get their turn."""

RETRY_SECONDS: Final = 0.2

After = Callable[[], None]
Work = tuple[Event | None, After | None]
"""An event, and what is to be done when its turn is durable; either may be missing."""


class Turn:
    """What has been thought and is not durable yet."""

    __slots__ = ("anew", "out", "touched", "work", "writes")

    def __init__(self) -> None:
        self.work: list[Work] = []
        self.writes = Writes()
        self.out: list[Effect] = []
        self.touched: set[AccountId] = set()
        self.anew: set[AccountId] = set()
        """Whose Users are loaded anew once this is durable; till then nothing is asked of them."""


class Turns:
    """The Users of one host in memory, and their turns."""

    def __init__(
        self,
        name: str,
        store: InboxStore,
        layout: Layout,
        metrics: HostMetrics,
        clock: Clock,
        send_owed: Callable[[Owed], None],
    ) -> None:
        self._name = name
        self._store = store
        self._layout = layout
        self._metrics = metrics
        self._clock = clock
        self._send_owed = send_owed
        self.users: dict[AccountId, User] = {}
        self._queue: deque[Work] = deque()
        self._open = Turn()
        self._flying: Turn | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._committer: asyncio.Task[None] | None = None
        self.failed: RaychatError | None = None
        """Why the last commit failed, until one succeeds."""

    # -- queueing --------------------------------------------------------------------------

    def add(self, event: Event | None, after: After | None = None) -> None:
        """Queue an event; `after` is called when its turn is durable and emitted."""
        self._queue.append((event, after))

    def begin(self) -> None:
        """Something has been queued."""
        self._wake.set()

    def paid(self, sequence: int) -> None:
        """Strike out what was owed, in the open turn."""
        self._open.writes.paid.append(sequence)

    @property
    def waiting(self) -> int:
        """Events that are queued or not durable yet."""
        flying = len(self._flying.work) if self._flying else 0
        return len(self._queue) + len(self._open.work) + flying

    async def run(self) -> None:
        """Think whenever there is something to think about; commits run beside."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and not isinstance(self.failed, Fenced):
                await self.think()
                if self._committer is None or self._committer.done():
                    if self._store.commits_at_once:
                        await self._commit_all()
                    else:
                        self._committer = asyncio.create_task(self._commit_all())
                if self._queue:
                    await asyncio.sleep(0)

    async def stop(self, timeout: float) -> None:
        """Wait (seconds) for the commit that is under way."""
        if self._committer is not None and not self._committer.done():
            await asyncio.wait([self._committer], timeout=timeout)

    # -- thinking --------------------------------------------------------------------------

    async def think(self) -> None:
        """Run the Users on what is queued, up to what the store must know first."""
        work = self._next()
        if not work:
            await self._settled.wait()
            work = self._next()
        now = self._clock()
        events = await self._prepare([event for event, _ in work if event is not None], now)
        turn = self._open
        tells: list[Told] = []
        for done, event in enumerate(events):
            try:
                effects = self.users[event.account].handle(event, now)
            except Exception:
                # A fault in the rules is one User's, not everybody's: that one is loaded anew
                # when what it said before is durable, and the event is left out.
                log.exception("event left out", kind=type(event).__name__)
                self._metrics.failed_turns += 1
                turn.anew.add(event.account)
            else:
                self._sort(effects, turn, tells)
            if event.account in turn.anew:
                work = self._put_back(work, done + 1)
                break
        if tells:
            await self._tell(tells, turn, now)
        turn.work += work
        turn.touched.update(event.account for event in events)
        self._settled.clear()

    def _next(self) -> list[Work]:
        """What can be thought about now. An attach reads the store, and some Users are loaded
        anew from it: both wait until what was thought of that account is durable."""
        queue, turn, flying = self._queue, self._open, self._flying
        anew = turn.anew if flying is None else turn.anew | flying.anew
        if (
            len(queue) <= THINK_EVENTS
            and not anew
            and not any(type(event) is Attach for event, _ in queue)
        ):
            work = list(queue)
            queue.clear()
            return work
        work, here = [], set[AccountId]()
        while queue and len(work) < THINK_EVENTS:
            event = queue[0][0]
            if event is not None:
                account = event.account
                if account in anew:
                    break
                if type(event) is Attach and (
                    account in here
                    or account in turn.touched
                    or (flying is not None and account in flying.touched)
                ):
                    break
                here.add(account)
            work.append(queue.popleft())
        return work

    def _put_back(self, work: list[Work], events: int) -> list[Work]:
        """Keep the pieces up to the `events`-th event; the rest goes back into the queue."""
        for place, (event, _) in enumerate(work):
            events -= event is not None
            if events == 0:
                self._queue.extendleft(reversed(work[place + 1 :]))
                return work[: place + 1]
        return work

    async def _prepare(self, events: list[Any], now: int) -> list[Any]:
        """Load what the events need that is not in memory."""
        users = self.users
        missing = {event.account for event in events if event.account not in users}
        if missing:
            self._activate(await self._store.load(list(missing)), now)
        peers = []
        told = []
        for place, event in enumerate(events):
            kind = type(event)
            if kind is Incoming:
                key = (event.sender, event.device)
                if not users[event.account].knows_peer(key):
                    peers.append((event.account, *key))
            elif kind is Told:
                told.append(event)
            elif kind is Attach:
                events[place] = await self._with_waiting(event)
        if peers:
            for (account, sender, device), record in zip(
                peers, await self._store.peers(peers), strict=True
            ):
                users[account].learn_peer((sender, device), record)
        if told:
            await self._learn_receipts(told)
        return events

    def _activate(self, records: Iterable[UserRecord], now: int) -> None:
        for record in records:
            self.users[record.account] = User(record, now)
            self._metrics.activated += 1

    async def user(self, account: AccountId) -> User:
        """A User, loaded if need be. For looking only."""
        if account not in self.users:
            self._activate(await self._store.load([account]), self._clock())
        return self.users[account]

    async def _with_waiting(self, event: Attach) -> Attach:
        device = self.users[event.account].devices.get(event.device)
        if device is None:
            return event
        waiting = await self._store.page(device.box, device.cursor, limits.PUSH_WINDOW)
        receipts = await self._store.receipts_after(event.account, event.revision)
        return event._replace(waiting=waiting, receipts=receipts)

    async def _learn_receipts(self, told: Iterable[Told]) -> None:
        wanted = [
            news for news in told if not self.users[news.account].knows_receipts(news.receipt_key())
        ]
        if wanted:
            keys = [(news.account, *news.receipt_key()) for news in wanted]
            for news, record in zip(wanted, await self._store.receipts(keys), strict=True):
                self.users[news.account].learn_receipts(news.receipt_key(), record)

    @staticmethod
    def _sort(effects: list[Effect], turn: Turn, tells: list[Told]) -> None:
        writes, out = turn.writes, turn.out
        for effect in effects:
            match effect:
                case Append():
                    writes.appends.append(effect)
                case Push():
                    out.append(effect)
                case PutPeer():
                    writes.peers[effect[:3]] = effect
                case Advance():
                    writes.advances.append(effect)
                case Tell():
                    tells.append(effect.told)
                case PutReceipt():
                    writes.receipts[effect[:4]] = effect
                case Admit() | Dismiss() | Fetch() | Answer() | Waiting():
                    out.append(effect)
                case _:
                    writes.add(effect)

    async def _tell(self, tells: list[Told], turn: Turn, now: int) -> None:
        """News of messages: to Users of this host in this very turn, to others durably owed."""
        here = []
        for told in tells:
            if self._layout.host_of(told.account) == self._name:
                here.append(told)
            else:
                turn.writes.owed.append(Owed(self._store.next_owed(), told))
        missing = {told.account for told in here if told.account not in self.users}
        if missing:
            self._activate(await self._store.load(list(missing)), now)
        await self._learn_receipts(here)
        for told in here:
            self._sort(self.users[told.account].handle(told, now), turn, [])
            turn.touched.add(told.account)

    # -- committing ------------------------------------------------------------------------

    async def _commit_all(self) -> None:
        while self._open.work and not isinstance(self.failed, Fenced):
            try:
                await self.commit()
            except Fenced as error:
                self.failed = error
                log.critical("fenced: another process owns this store")
            except StoreError as error:
                self.failed = error
                log.error("turn not durable, trying again", code=error.code)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def commit(self) -> None:
        """Make the open turn durable, then say so. Raises StoreError, and all is undone."""
        turn, self._open = self._open, Turn()
        self._flying = turn
        writes = turn.writes
        try:
            if writes:
                started = perf_counter()
                await self._store.commit(writes)
                self._metrics.committed(
                    len(turn.work),
                    perf_counter() - started,
                    len(writes.appends),
                    (advance.times for advance in writes.advances),
                    self._clock(),
                )
                self.failed = None
        except StoreError:
            self._undo(turn)
            raise
        finally:
            self._flying = None
        if turn.anew:
            self._drop(turn.anew)
        await self._emit(turn.out)
        for _, after in turn.work:
            if after is not None:
                after()
        for owed in writes.owed:
            self._send_owed(owed)
        if not self._open.work:
            self._settled.set()

    def _undo(self, turn: Turn) -> None:
        """The store has nothing of this turn, nor of what was thought since."""
        since, self._open = self._open, Turn()
        for effect in (*turn.out, *since.out):
            if type(effect) is Dismiss:
                # The User that is loaded anew knows nothing of this connection: it would stay.
                self._send_away(effect.session)
        self._drop(turn.touched | since.touched)
        self._queue.extendleft(reversed(turn.work + since.work))
        self._settled.set()

    def _drop(self, accounts: Iterable[AccountId]) -> None:
        """Forget Users whose state in memory is not the store's. Their connections end; the
        devices come back and find everything as it was acknowledged."""
        lost: list[Session] = []
        for account in accounts:
            user = self.users.pop(account, None)
            if user is not None:
                lost += [d.session for d in user.devices.values() if d.session is not None]
        for session in lost:
            self._send_away(session)

    @staticmethod
    def _send_away(session: Session) -> None:
        reason = (Close.GOING_AWAY, "unavailable", "Connect again.")
        session.link.send((Op.DISMISS, session.number, *reason))

    # -- emitting --------------------------------------------------------------------------

    async def _emit(self, out: list[Effect]) -> None:
        fetches: list[Fetch] = []
        for effect in out:
            match effect:
                case Push(session, frame, revision):
                    if revision:
                        item = (Op.RECEIPT, session.number, frame, revision)
                        session.link.send(item, len(frame))
                    else:
                        session.link.send((Op.DATA, session.number, frame), len(frame))
                case Fetch():
                    fetches.append(effect)
                case Admit(session, incarnation, frame):
                    item = (Op.ADMIT, session.number, frame, incarnation)
                    session.link.send(item, len(frame))
                case Dismiss(session, close, code, detail):
                    session.link.send((Op.DISMISS, session.number, close, code, detail))
                case Answer(ticket, result):
                    ticket(result)
                case Waiting():
                    self._metrics.waiting += 1
        for account, device, box, after, most in fetches:
            rows = await self._store.page(box, after, most)
            user = self.users.get(account)
            if user is not None:
                await self._emit(user.handle(Page(account, device, rows), self._clock()))

    # -- memory ----------------------------------------------------------------------------

    def detach_all(self, link: Link) -> None:
        """No connection over this link is there any more."""
        for user in self.users.values():
            for device in user.devices.values():
                if device.session is not None and device.session.link is link:
                    device.leave()

    async def passivate(self, idle_since: int) -> None:
        """Let Users leave memory in which nothing has happened since (ms)."""
        for number, user in enumerate(list(self.users.values())):
            account = user.account
            flying = self._flying is not None and account in self._flying.touched
            if flying or account in self._open.touched:
                continue
            if user.is_idle(idle_since):
                self.users.pop(account, None)
                self._metrics.passivated += 1
            elif user.used < idle_since:
                user.rest()
            if number % 1000 == 999:
                await asyncio.sleep(0)
