"""What drives the engine: one task that takes what has come, commits it and carries it out.

Frames, answers of the HTTP API and the wishes of the program are inputs of one bounded queue.
Whatever is in it when a turn begins goes into one transaction; the effects follow when that is
durable. Whoever puts an input in waits while the queue is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import aiohttp

from raychat import limits
from raychat.client.connection import Connection
from raychat.client.engine import Engine
from raychat.client.events import Event, Stopped
from raychat.client.http import Caller, HttpApi
from raychat.client.signals import (
    AccountFound,
    AccountNotFound,
    Answer,
    Compose,
    Effect,
    Greet,
    Input,
    KeysFound,
    KeysNotFound,
    MarkRead,
    Reconnect,
    Stop,
    Tell,
    Tick,
    Transmit,
    WantAccount,
    WantKeys,
)
from raychat.client.store import DeviceStore
from raychat.clock import Clock
from raychat.errors import RaychatError, StoreError, Unavailable
from raychat.ids import AccountId, PhoneNumber

log = logging.getLogger("raychat.client")

TURN_INPUTS: Final = 64
"""Inputs handled in one transaction, and those that may wait for the next one."""

CALLS_AT_ONCE: Final = 4
CLOSE_SECONDS: Final = 3


class Driver:
    """The running parts of one device, over a store and a session that stay their owner's."""

    def __init__(
        self,
        store: DeviceStore,
        session: aiohttp.ClientSession,
        server: str,
        clock: Clock,
        tell: Callable[[Event], None],
    ) -> None:
        """`tell` gets every event, after its commit. Raises NotRegistered."""
        own = store.own()
        self.api = HttpApi(session, server)
        self.caller = Caller(own.account, own.device, own.token)
        self.engine = Engine(store)
        self.stopped: RaychatError | None = None
        """Why it does not connect any more, if so."""
        self.turned = asyncio.Event()
        """Set after each turn."""
        self._store = store
        self._clock = clock
        self._tell = tell
        self._inputs: asyncio.Queue[Input] = asyncio.Queue(TURN_INPUTS)
        self._connection = Connection(session, server, self._inputs.put)
        self._wanted: set[PhoneNumber | AccountId] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._call_slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._connecting = asyncio.create_task(self._connection.run())
        self._turning = asyncio.create_task(self._turns())

    async def put(self, item: Input) -> None:
        """Hand in an input; waits while there are too many."""
        await self._inputs.put(item)

    async def close(self) -> None:
        """Write what is left, say goodbye and end."""
        self._connection.close()
        try:
            await asyncio.wait((self._connecting,), timeout=CLOSE_SECONDS)
        finally:
            tasks = [self._connecting, self._turning, *self._calls]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            left = [self._inputs.get_nowait() for _ in range(self._inputs.qsize())]
            self._refuse(left, StoreError("This client was closed."))

    async def _turns(self) -> None:
        try:
            while True:
                batch = await self._next()
                try:
                    effects = self.engine.turn(batch, self._clock())
                except Exception as error:
                    self._recover(batch, error)
                else:
                    self._perform(effects)
                self.turned.set()
        except Exception as error:
            log.exception("the client has stopped")
            failure = error if isinstance(error, RaychatError) else StoreError()
            self._stop(failure)
            self._tell(Stopped(failure))
            self.turned.set()
            while True:
                self._refuse([await self._inputs.get()], failure)

    async def _next(self) -> list[Input]:
        deadline = self.engine.deadline()
        timeout = None if deadline is None else max(0.0, (deadline - self._clock()) / 1000)
        try:
            async with asyncio.timeout(timeout):
                batch = [await self._inputs.get()]
        except TimeoutError:
            return [Tick()]
        while len(batch) < TURN_INPUTS and not self._inputs.empty():
            batch.append(self._inputs.get_nowait())
        return batch

    def _recover(self, batch: Sequence[Input], error: Exception) -> None:
        """A turn was rolled back: begin anew from the file, with a new connection."""
        log.error("a turn of %d inputs failed: %s", len(batch), type(error).__name__)
        failure = error if isinstance(error, RaychatError) else StoreError()
        self._refuse(batch, failure)
        self.engine = Engine(self._store)
        self._connection.drop(limits.RECONNECT_MIN_MS, limits.RECONNECT_MAX_MS)

    def _refuse(self, batch: Sequence[Input], error: RaychatError) -> None:
        for item in batch:
            if isinstance(item, Compose | MarkRead) and not item.ticket.done():
                item.ticket.set_exception(error)

    def _perform(self, effects: Sequence[Effect]) -> None:
        frames: list[bytes] = []
        for effect in effects:
            match effect:
                case Greet(frame):
                    frames.clear()
                    self._connection.greet(frame)
                case Transmit(frame):
                    frames.append(frame)
                case Tell(event):
                    self._tell(event)
                case Answer(ticket, result):
                    if not ticket.done():
                        ticket.set_result(result)
                case WantAccount(number):
                    self._call(number, self._find_account(number))
                case WantKeys(account):
                    self._call(account, self._find_keys(account))
                case Reconnect(low, high):
                    self._connection.drop(low, high)
                case Stop(error):
                    self._stop(error)
        if frames:
            self._connection.write(frames)

    def _stop(self, error: RaychatError) -> None:
        self.stopped = error
        self._connection.close()

    def _call(self, subject: PhoneNumber | AccountId, call: Coroutine[Any, Any, Input]) -> None:
        """Make a call beside the turns, unless the same one is being made."""
        if subject in self._wanted:
            call.close()
            return
        self._wanted.add(subject)
        task = asyncio.create_task(self._carry_out(subject, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _carry_out(
        self, subject: PhoneNumber | AccountId, call: Coroutine[Any, Any, Input]
    ) -> None:
        async with self._call_slots:
            answer = await call
        self._wanted.discard(subject)
        await self._inputs.put(answer)

    async def _find_account(self, number: PhoneNumber) -> Input:
        try:
            return AccountFound(number, await self.api.lookup(self.caller, number))
        except Exception as error:
            return AccountNotFound(number, _typed(error))

    async def _find_keys(self, account: AccountId) -> Input:
        try:
            return KeysFound(account, await self.api.bundles(self.caller, account))
        except Exception as error:
            return KeysNotFound(account, _typed(error))


def _typed(error: Exception) -> RaychatError:
    """A call always gets an answer, or the messages that wait for it would wait for ever."""
    if isinstance(error, RaychatError):
        return error
    log.error("a call failed: %s", type(error).__name__)
    return Unavailable()
