"""Looking after the key-transparency log: one's own entry, and those of the people one talks to.

The own entry is looked at once an hour while connected, another account's when its device list
is another one than was last seen in the log, and once a week in any case. What is wrong is told
once (`TransparencyAlarm`); what the server signed stays in the file as evidence.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from raychat import limits
from raychat.client.events import Event, TransparencyAlarm
from raychat.client.http import Caller
from raychat.client.store import DeviceStore
from raychat.clock import Clock
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import BadProof, BadSignature, Malformed, RaychatError
from raychat.ids import PRIMARY, AccountId
from raychat.transparency import watch
from raychat.transparency.answer import Answer, State
from raychat.transparency.head import SignedHead, follow
from raychat.transparency.watch import HOUR_MS, Reason

log = logging.getLogger("raychat.client")

LOOK_SECONDS: Final = (5.0, 60.0)
AT_ONCE: Final = 20
"""Other accounts looked at in one go; the rest has its turn later."""


class LogApi(Protocol):
    """The calls of `HttpApi` that are made here."""

    async def log_state(self, since: int) -> bytes: ...

    async def log_answer(
        self, caller: Caller, account: AccountId, since: int, known: int
    ) -> bytes: ...


class Distrust(Exception):
    """What the log says cannot be true."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class LogWatch:
    """Watches the log for one device."""

    def __init__(
        self,
        store: DeviceStore,
        api: LogApi,
        caller: Callable[[], Caller],
        clock: Clock,
        tell: Callable[[Event], None],
        repair: Callable[[AccountId], Awaitable[None]],
        chance: random.Random | None = None,
    ) -> None:
        """`repair` is called with an account whose list here is not the newest in the log: of
        another account it is to be fetched, the own one to be put again."""
        self._store = store
        self._log = store.key_log
        self._api = api
        self._caller = caller
        self._clock = clock
        self._tell = tell
        self._repair = repair
        self._chance = chance or random.SystemRandom()
        self._told: set[tuple[AccountId, Reason]] = set()

    async def run(self, online: asyncio.Event) -> None:
        """Look for ever, while `online` is set."""
        while True:
            await online.wait()
            await asyncio.sleep(self._chance.uniform(*LOOK_SECONDS))
            try:
                await self.look()
            except RaychatError as error:
                log.info("the key log was not looked at: %s", error.code)

    async def look(self) -> None:
        """Look at whatever is due. Raises what the calls do."""
        for account in self.due():
            await self.look_at(account)

    def due(self) -> list[AccountId]:
        """The accounts whose turn it is, one's own first."""
        own, now = self._caller().account, self._clock()
        due = [own] if self._is_due(own, HOUR_MS, now) else []
        for account, data in self._log.others(own):
            if len(due) > AT_ONCE:
                break
            changed = SignedDeviceList.parse(data).digest() != self._log.trace(account).newest
            pause = HOUR_MS if changed else limits.LOG_PEER_HOURS * HOUR_MS
            if self._is_due(account, pause, now):
                due.append(account)
        return due

    async def look_at(self, account: AccountId) -> Reason | None:
        """Look at one account now; what is wrong with it is told, and returned."""
        verdict = await self._verdict(account)
        if isinstance(verdict, Reason):
            self._alarm(account, verdict)
            return verdict
        with self._store.transaction():
            self._log.set_trace(account, verdict.trace, self._clock())
        if verdict.reason is not None:
            self._alarm(account, verdict.reason)
        else:
            self._told -= {(account, reason) for reason in Reason}
        if verdict.unlike:
            try:
                await self._repair(account)
            except RaychatError as error:  # what was seen counts; the next look tries again
                log.info("a device list was not repaired: %s", error.code)
        return verdict.reason

    async def compare(self, data: bytes) -> bool:
        """Whether a head that another device was shown (`SignedHead.to_bytes`) is of the same log
        that this one sees. If not, both are kept as evidence and an alarm is told.

        Raises Malformed, and BadSignature for a head that the log's key has not signed.
        """
        other = SignedHead.parse(data)
        key = await self._key()
        other.verify(key)
        try:
            state = State.parse(await self._api.log_state(other.size))
            self._follow(state.head, state.consistency, key, other)
            await self._catch_up(key)
        except BadProof:
            self._keep_evidence(other, self._log.head())
        except Distrust:
            pass
        else:
            return True
        self._alarm(self._caller().account, Reason.FORK)
        return False

    # -- one look --------------------------------------------------------------------------

    async def _verdict(self, account: AccountId) -> watch.Verdict | Reason:
        """What is to be made of the log's answer; a reason if it cannot be believed at all."""
        caller, now = self._caller(), self._clock()
        try:
            key = await self._key()
            trace, kept = self._log.trace(account), self._log.head()
            since = kept.size if kept else 0
            try:
                data = await self._api.log_answer(caller, account, since, trace.counter)
            except BadProof:  # the log says it was never as long as the head that was kept
                return Reason.FORK
            answer = Answer.parse(data)
            self._follow(answer.head, answer.consistency, key, kept)
            answer.check(account, kept, key, trace.counter)
        except Distrust as distrust:
            return distrust.reason
        except (BadProof, Malformed):
            return Reason.PROOF
        with self._store.transaction():
            self._log.set_head(answer.head)
        if watch.is_stale(answer.head, now):
            return Reason.STALE
        if account == caller.account and caller.device == PRIMARY:
            return watch.own(trace, answer.lists, self._log.signed_lists(account), now)
        given = self._store.lists.signed(account)
        digest = SignedDeviceList.parse(given).digest() if given is not None else None
        return watch.peer(trace, answer.lists, digest, now)

    async def _key(self) -> bytes:
        """The log's key: the one this device has always known, or the first one it sees."""
        known = self._log.key()
        if known is not None:
            return known
        state = State.parse(await self._api.log_state(0))
        try:
            state.check(None, state.key)
        except (BadSignature, BadProof) as error:
            raise Distrust(Reason.SIGNER) from error
        with self._store.transaction():
            self._log.trust(state.key)
            self._log.set_head(state.head)
        return state.key

    async def _catch_up(self, key: bytes) -> None:
        kept = self._log.head()
        state = State.parse(await self._api.log_state(kept.size if kept else 0))
        self._follow(state.head, state.consistency, key, kept)
        with self._store.transaction():
            self._log.set_head(state.head)

    def _follow(
        self, head: SignedHead, path: tuple[bytes, ...], key: bytes, kept: SignedHead | None
    ) -> None:
        """Raises Distrust unless a head is the log's and continues what was kept."""
        try:
            follow(kept, head, path, key)
        except BadSignature as error:
            raise Distrust(Reason.SIGNER) from error
        except BadProof as error:
            self._keep_evidence(kept, head)
            raise Distrust(Reason.FORK) from error

    def _keep_evidence(self, kept: SignedHead | None, shown: SignedHead | None) -> None:
        if kept is not None and shown is not None:
            with self._store.transaction():
                self._log.add_evidence(kept, shown, self._clock())

    def _alarm(self, account: AccountId, reason: Reason) -> None:
        if (account, reason) not in self._told:
            self._told.add((account, reason))
            self._tell(TransparencyAlarm(account, reason))

    def _is_due(self, account: AccountId, pause: int, now: int) -> bool:
        return not 0 <= now - self._log.looked_at(account) < pause
