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
    BlocksKept,
    Choose,
    Compose,
    DevicesFound,
    DevicesNotFound,
    Effect,
    Greet,
    Input,
    KeysFound,
    KeysNotFound,
    MarkRead,
    NewToken,
    PublishBlocks,
    PublishList,
    Reconnect,
    Stop,
    Tell,
    Tick,
    Transmit,
    WantAccount,
    WantDevices,
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
        self.api = HttpApi(session, server)
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
        self._wanted: set[object] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._call_slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._connecting = asyncio.create_task(self._connection.run())
        self._turning = asyncio.create_task(self._turns())

    @property
    def caller(self) -> Caller:
        """Who makes the calls of this device, with the token it has now."""
        own = self._store.own()
        return Caller(own.account, own.device, own.token)

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
                    if self.engine.scrub:
                        self._store.scrub()
                        self.engine.scrub = False
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
            if isinstance(item, Compose | MarkRead | Choose | NewToken) and not item.ticket.done():
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
                    if ticket.done():
                        pass
                    elif isinstance(result, RaychatError):
                        ticket.set_exception(result)
                    else:
                        ticket.set_result(result)
                case WantAccount(number):
                    self._call(effect, self._find_account(number))
                case WantKeys():
                    self._call(effect, self._find_keys(effect))
                case WantDevices(account):
                    self._call(effect, self._find_devices(account))
                case PublishList(listed):
                    self._call(effect, self._publish_list(listed))
                case PublishBlocks(accounts):
                    self._call(effect, self._publish_blocks(accounts))
                case Reconnect(low, high):
                    self._connection.drop(low, high)
                case Stop(error):
                    self._stop(error)
        if frames:
            self._connection.write(frames)

    def _stop(self, error: RaychatError) -> None:
        self.stopped = error
        self._connection.close()

    def _call(self, wanted: Effect, call: Coroutine[Any, Any, Input | None]) -> None:
        """Make a call beside the turns, unless the same one is being made."""
        if wanted in self._wanted:
            call.close()
            return
        self._wanted.add(wanted)
        task = asyncio.create_task(self._carry_out(wanted, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _carry_out(self, wanted: Effect, call: Coroutine[Any, Any, Input | None]) -> None:
        async with self._call_slots:
            answer = await call
        self._wanted.discard(wanted)
        if answer is not None:
            await self._inputs.put(answer)

    async def _find_account(self, number: PhoneNumber) -> Input:
        try:
            return AccountFound(number, await self.api.lookup(self.caller, number))
        except Exception as error:
            return AccountNotFound(number, _typed(error))

    async def _find_keys(self, want: WantKeys) -> Input:
        account, devices = want
        try:
            listed, bundles = await self.api.bundles(self.caller, account, devices)
            return KeysFound(account, listed, bundles, devices)
        except Exception as error:
            return KeysNotFound(account, _typed(error))

    async def _find_devices(self, account: AccountId) -> Input:
        try:
            own = account == self.caller.account
            found = await self.api.devices(self.caller, None if own else account)
            return DevicesFound(account, found.signed, found.devices)
        except Exception as error:
            return DevicesNotFound(account, _typed(error))

    async def _publish_list(self, listed: bytes) -> None:
        try:
            await self.api.put_list(self.caller, listed)
        except Exception as error:
            log.info("the device list was not taken: %s", _typed(error).code)

    async def _publish_blocks(self, accounts: frozenset[AccountId]) -> Input | None:
        try:
            await self.api.put_blocks(self.caller, accounts)
        except Exception as error:
            log.info("the blocks were not taken: %s", _typed(error).code)
            return None
        return BlocksKept(accounts)


def _typed(error: Exception) -> RaychatError:
    """A call always gets an answer, or the messages that wait for it would wait for ever."""
    if isinstance(error, RaychatError):
        return error
    log.error("a call failed: %s", type(error).__name__)
    return Unavailable()
