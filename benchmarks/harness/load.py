"""The scenarios at work inside a generator process, written once against `Wire`.

A load has three steps, called by `generator`: `connect` brings the connections up, `run` makes
the traffic between two instants of perf_counter (which all processes of the machine share),
`close` ends it. Nothing here waits per message: callbacks send the next.
"""

from __future__ import annotations

import asyncio
import math
import random
from abc import ABC, abstractmethod
from time import perf_counter
from typing import Any

from .payload import SIZE, Payloads, age_us, serial
from .scenario import (
    Closed,
    Drain,
    Idle,
    Open,
    Scenario,
    Store,
    Tally,
    offline_users,
    receiver,
    sender,
)
from .wire import Connection, Wire

__all__ = ["Load", "load_for"]

_GRACE_S = 5.0
"""How long answers may come after the last message of a timed scenario."""


class Load(ABC):
    """One process's share of a scenario: every `processes`-th user from `process` on."""

    def __init__(self, wire: Wire, process: int, processes: int) -> None:
        self.wire = wire
        self.share = slice(process, None, processes)
        self.tally = Tally()
        self.payloads = Payloads(process)
        self.connections: list[Connection] = []
        self.start = self.end = math.inf

    async def connect(self) -> None:
        """Bring up what must be connected before the clock starts."""
        return

    @abstractmethod
    async def run(self, start: float, end: float) -> None:
        """Make the traffic; timed scenarios count what falls between `start` and `end`."""

    def close(self) -> None:
        """Close all connections."""
        for connection in self.connections:
            connection.close()

    async def open(self, users: list[str], handlers: list[Peer]) -> None:
        """Connect the users, 50 at a time, each to its handler."""
        gate = asyncio.Semaphore(50)

        async def one(user: str, handler: Peer) -> None:
            async with gate:
                handler.attach(await self.wire.connect(user, handler))

        await asyncio.gather(*map(one, users, handlers))


class Peer:
    """A handler that by default takes messages in and answers them."""

    __slots__ = ("connection", "early", "load")

    connection: Connection

    def __init__(self, load: Load) -> None:
        self.load = load
        self.early: list[object] | None = []

    def attach(self, connection: Connection) -> None:
        """Logged in: answer what came meanwhile, then answer at once."""
        self.connection = connection
        self.load.connections.append(connection)
        early, self.early = self.early, None
        for origin in early or ():
            self.answer(origin)

    def answer(self, origin: object) -> None:
        """What a message is answered with."""
        self.connection.receipt(origin)

    def on_message(self, origin: object, payload: bytes) -> None:
        """Count the way here if the message was sent in the window, and answer."""
        load = self.load
        age = age_us(payload)
        if load.start <= perf_counter() - age * 1e-6 < load.end:
            load.tally.one_way_us.append(age)
        if len(payload) != SIZE:
            load.tally.fail(f"body of {len(payload)} bytes")
        if self.early is None:
            self.connection.receipt(origin)
        else:
            self.early.append(origin)

    def on_receipt(self, message_id: int) -> None:
        """Receipts matter to senders only."""

    def on_accepted(self, message_id: int) -> None:
        """Acknowledgements matter to storing senders only."""

    def on_failure(self, reason: str) -> None:
        """Any failure is counted."""
        self.load.tally.fail(reason)


class Sender(Peer):
    """Sends to one receiver and waits for receipts."""

    __slots__ = ("again", "next_id", "sent", "to")

    def __init__(self, load: Load, to: str, again: bool) -> None:
        super().__init__(load)
        self.to = to
        self.again = again
        self.next_id = int(perf_counter() * 1e6)  # no id twice, in later runs neither
        self.sent: dict[int, float] = {}

    def fire(self) -> None:
        """Send one message now."""
        self.next_id = number = self.next_id + 1
        self.sent[number] = now = perf_counter()
        self.connection.send(self.to, number, self.load.payloads.stamped(now))

    def on_receipt(self, message_id: int) -> None:
        """Count the round trip; in the closed loop send the next."""
        sent = self.sent.pop(message_id, None)
        load = self.load
        if sent is None:
            load.tally.repeated += 1
            return
        now = perf_counter()
        if load.start <= now < load.end:
            load.tally.done += 1
        if load.start <= sent < load.end:
            load.tally.round_trip_us.append(int((now - sent) * 1e6))
        if self.again and now < load.end:
            self.fire()


class PairsLoad(Load):
    """`Closed` and `Open`: pairs of a sender and a receiver."""

    def __init__(self, scenario: Closed | Open, wire: Wire, process: int, processes: int) -> None:
        super().__init__(wire, process, processes)
        self.scenario = scenario
        self.pairs = range(scenario.pairs)[self.share]
        self.senders = [
            Sender(self, receiver(pair), isinstance(scenario, Closed)) for pair in self.pairs
        ]
        self.rate_share = len(self.pairs) / scenario.pairs
        self.rate_seed = process

    async def connect(self) -> None:
        """Receivers first, so that no message finds its recipient offline."""
        await self.open([receiver(pair) for pair in self.pairs], [Peer(self) for _ in self.pairs])
        await self.open([sender(pair) for pair in self.pairs], list(self.senders))

    async def run(self, start: float, end: float) -> None:
        """Warm up until `start`, count until `end`, give answers on the way some time."""
        self.start, self.end = start, end
        if isinstance(self.scenario, Closed):
            for one in self.senders:
                for _ in range(self.scenario.outstanding):
                    one.fire()
            await asyncio.sleep(end - perf_counter())
        else:
            await self._tick(self.scenario, end)
        self.tally.started, self.tally.ended = start, end
        late = perf_counter() + _GRACE_S
        while any(one.sent for one in self.senders) and perf_counter() < late:
            await asyncio.sleep(0.01)
        self.tally.unanswered = sum(len(one.sent) for one in self.senders)

    async def _tick(self, scenario: Open, end: float) -> None:
        gap = 1 / (scenario.rate * self.rate_share)
        gaps = random.Random(scenario.seed * 1000 + self.rate_seed)
        due, turn = perf_counter(), 0
        while True:
            now = perf_counter()
            while due <= now:
                if due >= end:
                    return
                self.senders[turn].fire()
                turn = (turn + 1) % len(self.senders)
                due += gaps.expovariate(1 / gap) if scenario.poisson else gap
            # uvloop's timers have whole milliseconds: rounding up never spins.
            await asyncio.sleep(math.ceil((due - now) * 1000) / 1000)


class Storer(Peer):
    """Sends its list of messages, `outstanding` at a time, by the server's acknowledgements."""

    __slots__ = ("sent", "todo")

    def __init__(self, load: Load, todo: list[str]) -> None:
        super().__init__(load)
        self.todo = todo
        self.sent: dict[int, float] = {}

    def fire(self) -> None:
        """Send the next one of the list, if any is left."""
        if self.todo:
            number = len(self.todo)
            self.sent[number] = now = perf_counter()
            self.connection.send(self.todo.pop(), number, self.load.payloads.stamped(now))

    def on_accepted(self, message_id: int) -> None:
        """The server has taken one over: the next goes out."""
        sent = self.sent.pop(message_id, None)
        tally = self.load.tally
        if sent is None:
            tally.repeated += 1
            return
        tally.ended = now = perf_counter()
        tally.done += 1
        tally.round_trip_us.append(int((now - sent) * 1e6))
        self.fire()


class StoreLoad(Load):
    """`Store`: every sender sends to every recipient, in rounds."""

    def __init__(self, scenario: Store, wire: Wire, process: int, processes: int) -> None:
        super().__init__(wire, process, processes)
        self.scenario = scenario
        recipients = offline_users(scenario.recipients)
        each, more = divmod(scenario.messages, scenario.senders)
        self.numbers = range(scenario.senders)[self.share]
        self.storers = []
        for number in self.numbers:
            first = number * scenario.recipients // scenario.senders
            turn = recipients[first:] + recipients[:first]
            self.storers.append(Storer(self, turn * (each + (number < more))))
        self.total = sum(len(storer.todo) for storer in self.storers)

    async def connect(self) -> None:
        """The senders only."""
        await self.open([sender(number) for number in self.numbers], list(self.storers))

    async def run(self, start: float, end: float) -> None:
        """Send all."""
        self.tally.started = self.tally.ended = perf_counter()
        for storer in self.storers:
            for _ in range(self.scenario.outstanding):
                storer.fire()
        await progress(self.tally, self.total, self.scenario.patience)


class Drainer(Peer):
    """Takes in what waited, acknowledges it to the server, and counts each message once."""

    __slots__ = ("known",)

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.known: set[bytes] = set()

    def answer(self, origin: object) -> None:
        """The sender is gone: only the server has to know."""
        self.connection.acknowledge(origin)

    def on_message(self, origin: object, payload: bytes) -> None:
        """Count."""
        if self.early is None:
            self.connection.acknowledge(origin)
        else:
            self.early.append(origin)
        number = serial(payload)
        tally = self.load.tally
        if number in self.known:
            tally.repeated += 1
            return
        self.known.add(number)
        tally.done += 1
        tally.ended = perf_counter()


class DrainLoad(Load):
    """`Drain`: all connect at once; the clock runs from the first connect."""

    def __init__(self, scenario: Drain, wire: Wire, process: int, processes: int) -> None:
        super().__init__(wire, process, processes)
        self.scenario = scenario
        self.users = offline_users(scenario.recipients)[self.share]

    async def run(self, start: float, end: float) -> None:
        """Connect and wait for the last message."""
        tally = self.tally
        tally.started = tally.ended = perf_counter()

        async def one(user: str) -> None:
            drainer = Drainer(self)
            drainer.attach(await self.wire.connect(user, drainer))
            tally.round_trip_us.append(int((perf_counter() - tally.started) * 1e6))

        await asyncio.gather(*map(one, self.users))
        await progress(tally, len(self.users) * self.scenario.messages, self.scenario.patience)


class IdleLoad(Load):
    """`Idle`: connects, and stays until it is closed."""

    def __init__(self, scenario: Idle, wire: Wire, process: int, processes: int) -> None:
        super().__init__(wire, process, processes)
        self.scenario = scenario
        self.users = scenario.users()[self.share]
        self.workers = -(-scenario.concurrent // processes)

    async def run(self, start: float, end: float) -> None:
        """Connect all, `concurrent` at a time."""
        tally = self.tally
        users = iter(self.users)
        handler = Peer(self)

        async def worker() -> None:
            for user in users:
                begun = perf_counter()
                self.connections.append(await self.wire.connect(user, handler))
                tally.round_trip_us.append(int((perf_counter() - begun) * 1e6))

        tally.started = perf_counter()
        await asyncio.gather(*(worker() for _ in range(self.workers)))
        tally.ended = perf_counter()
        tally.done = len(self.connections)


async def progress(tally: Tally, total: int, patience: float) -> None:
    """Wait until `total` are done, or nothing more has come for `patience` seconds."""
    while tally.done < total and perf_counter() - tally.ended < patience:
        await asyncio.sleep(0.02)
    tally.unanswered = total - tally.done


_LOADS: dict[type[Any], type[Any]] = {
    Closed: PairsLoad,
    Open: PairsLoad,
    Store: StoreLoad,
    Drain: DrainLoad,
    Idle: IdleLoad,
}


def load_for(scenario: Scenario, wire: Wire, process: int, processes: int) -> Load:
    """The load that runs a scenario."""
    load: Load = _LOADS[type(scenario)](scenario, wire, process, processes)
    return load
