"""A real server under steady load, and what may happen to its processes.

Twenty devices write to one another all the time. Processes are killed, stopped and continued,
connections broken; after each the checker proves that every message that got its ✓ is shown
exactly once and in order, and that everything has arrived in the end.

RAYCHAT_FAULTS_SECONDS makes a soak of it: so long, faults are drawn one after another.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from raychat.cluster.placement import Layout
from raychat.config import Placement
from raychat.ids import AccountId
from raychat.store.sqlite import SqliteStore
from tests.cluster.server import Server
from tests.faults.checker import Devices, check
from tests.faults.device import Device, circle
from tests.people import people, seed

pytestmark = [pytest.mark.cluster, pytest.mark.faults]

DEVICES = 20
FRIENDS = 4
RATE = 8.0
"""Messages a second that each device writes."""

BACKLOG = 300
"""A device writes no more while so many of its messages wait for their ✓."""

HOSTS = GATEWAYS = 2
SETTLE_SECONDS = 1.0
SILENCE_SECONDS = 7.0
"""Longer than a link waits for a sign of life."""

SOAK_SECONDS = int(os.environ.get("RAYCHAT_FAULTS_SECONDS") or 10)
OPTIONS = ("--hosts=2", "--gateways=2", "--send-burst=100000", "--send-per-second=10000")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    asyncio.run(seed(server.data / "hosts", Layout(Placement.SHARDED, HOSTS), people(DEVICES)))
    try:
        server.start(*OPTIONS)
        yield server
    finally:
        server.close()


class Load:
    """Devices that write to their friends until they are told to rest."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        accounts = list(self.devices)
        for number, device in enumerate(self.devices.values()):
            friends = [accounts[(number + step) % len(accounts)] for step in (1, 3, 7, 12)]
            self._tasks.append(asyncio.create_task(self._write(device, friends[:FRIENDS])))

    async def rest(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _write(self, device: Device, friends: list[AccountId]) -> None:
        while True:
            await asyncio.sleep(random.expovariate(RATE))
            if device.unsettled < BACKLOG:
                device.write(random.choice(friends), b"x" * random.choice([50, 300, 3_000]))


class World:
    """The server, its devices and their load, across the tests of this module."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.devices = circle(people(DEVICES), server.url)
        self.load = Load(self.devices)

    async def begin(self) -> None:
        for device in self.devices.values():
            device.start()
        async with asyncio.timeout(30):
            for device in self.devices.values():
                await device.welcome.wait()
        self.load.start()
        await asyncio.sleep(SETTLE_SECONDS)

    async def end(self) -> None:
        """Everything is well again: prove it."""
        await asyncio.sleep(SETTLE_SECONDS)
        await self.load.rest()
        assert await check(self.devices) > 0

    async def stop(self) -> None:
        await self.load.rest()
        for device in self.devices.values():
            await device.stop()


@pytest.fixture(scope="module")
def memory() -> dict[str, World]:
    """The devices outlive a test: what one has shown, the next must not show again."""
    return {}


@pytest.fixture
async def world(server: Server, memory: dict[str, World]) -> AsyncIterator[World]:
    world = memory.setdefault("world", World(server))
    for device in world.devices.values():
        device.url = server.url
        device.reset()
    world.load = Load(world.devices)
    await world.begin()
    yield world
    await world.stop()


# -- faults ----------------------------------------------------------------------------------


async def kill_a_host(server: Server) -> None:
    await _kill(server, "Host", 1, HOSTS)


async def kill_all_hosts(server: Server) -> None:
    await _kill(server, "Host", HOSTS, HOSTS)


async def kill_a_gateway(server: Server) -> None:
    await _kill(server, "Gateway", 1, GATEWAYS)


async def stop_a_host(server: Server) -> None:
    await _pause(server, "Host", SILENCE_SECONDS)


async def stop_a_gateway(server: Server) -> None:
    await _pause(server, "Gateway", SILENCE_SECONDS)


async def stop_a_host_for_a_moment(server: Server) -> None:
    await _pause(server, "Host", 1.0)


async def _kill(server: Server, role: str, count: int, of: int) -> None:
    before = server.actors(role)
    assert len(before) == of
    killed = set(random.sample(before, count))
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(server.wait_for_actors, role, of, killed)


async def _pause(server: Server, role: str, seconds: float) -> None:
    pid = random.choice(server.actors(role))
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


Fault = Callable[[Server], Awaitable[None]]


# -- tests -----------------------------------------------------------------------------------


async def test_steady_load_arrives(world: World) -> None:
    await asyncio.sleep(2)
    await world.end()


async def test_a_host_is_killed_several_times(world: World) -> None:
    for _ in range(3):
        await kill_a_host(world.server)
        await asyncio.sleep(random.uniform(0.2, 1.0))
    await world.end()


async def test_both_hosts_are_killed_at_once(world: World) -> None:
    await kill_all_hosts(world.server)
    await world.end()


async def test_a_gateway_is_killed(world: World) -> None:
    for _ in range(2):
        await kill_a_gateway(world.server)
        await asyncio.sleep(0.5)
    await world.end()


async def test_a_host_stops_for_longer_than_its_links_wait(world: World) -> None:
    await stop_a_host(world.server)
    await world.end()


async def test_a_gateway_stops_for_longer_than_its_links_wait(world: World) -> None:
    await stop_a_gateway(world.server)
    await world.end()


async def test_a_host_and_a_gateway_are_killed_at_once(world: World) -> None:
    await asyncio.gather(kill_a_host(world.server), kill_a_gateway(world.server))
    await world.end()


async def test_all_connections_break_again_and_again(world: World) -> None:
    for _ in range(4):
        for device in world.devices.values():
            await device.break_connection()
        await asyncio.sleep(0.7)
    await world.end()


@pytest.mark.timeout(SOAK_SECONDS * 2 + 300)
async def test_a_long_soak(world: World) -> None:
    faults: list[Fault] = [
        kill_a_host,
        kill_all_hosts,
        kill_a_gateway,
        stop_a_host,
        stop_a_gateway,
        stop_a_host_for_a_moment,
    ]
    until = time.monotonic() + SOAK_SECONDS
    while time.monotonic() < until:
        fault = random.choice(faults)
        print(f"{until - time.monotonic():6.0f} s left: {fault.__name__}", flush=True)
        await fault(world.server)
        if random.random() < 0.3:
            await asyncio.sleep(random.uniform(1, 5))
            await world.end()
            world.load.start()
    await world.end()


async def test_the_whole_server_is_killed_and_started_again(world: World) -> None:
    port = world.server.port
    await asyncio.to_thread(world.server.kill)
    await asyncio.to_thread(world.server.start, *OPTIONS, port=port)
    await world.end()


async def test_a_server_whose_launcher_alone_is_killed_can_be_started_again(world: World) -> None:
    port = world.server.port
    world.server.processes()  # known, so that those that outlive it end with the module
    os.kill(world.server.pid, signal.SIGKILL)
    await asyncio.to_thread(world.server.wait)
    await asyncio.to_thread(world.server.start, *OPTIONS, port=port)
    await world.end()


async def test_a_server_that_is_stopped_leaves_nothing_undone(world: World) -> None:
    await world.end()
    await world.stop()
    assert await asyncio.to_thread(world.server.stop) == 0
    for path in (world.server.data / "hosts").glob("*.db"):
        store = SqliteStore(path, path.stem)
        assert (await store.depth())[0] == 0
        assert await store.owed(0, 10) == []
        await store.close()
