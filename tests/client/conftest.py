"""Two people who can write to each other, in a world without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from raychat.client.client import Client
from raychat.client.http import Registration
from raychat.errors import BadCode
from tests.client.histories import Book
from tests.client.service import CODE, Service
from tests.client.shell import Shell
from tests.client.world import Device, World

ALICE, BOB = "+15550001111", "+15550002222"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
def book() -> Iterator[Book]:
    book = Book()
    yield book
    book.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def alice(world: World) -> Device:
    return world.device(ALICE)


@pytest.fixture
def bob(world: World) -> Device:
    return world.device(BOB)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    await service.start()
    yield service
    await service.stop()


class People:
    """Registers devices at a service, each with its own home."""

    def __init__(self, service: Service, home: Path) -> None:
        self.service = service
        self.home = home

    async def register(self, number: str, profile: str) -> Client:
        async def code(registration: Registration, wrong: BadCode | None) -> str:
            return CODE

        return await Client.register(
            number, code=code, server=self.service.url, profile=profile, home=self.home
        )


@pytest.fixture
def people(service: Service, tmp_path: Path) -> People:
    return People(service, tmp_path)


@pytest.fixture
async def clients(people: People) -> AsyncIterator[tuple[Client, Client]]:
    """Alice and bob, who has accepted her."""
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await bob.accept(alice.account)
        yield alice, bob


@pytest.fixture
def shell(tmp_path: Path, service: Service) -> Shell:
    return Shell(tmp_path, service.url)


@pytest.fixture
async def both(shell: Shell) -> Shell:
    """A shell with the registered profiles alice and bob."""
    for number, profile in ((ALICE, "alice"), (BOB, "bob")):
        await shell.done("register", number, "--code", CODE, "--profile", profile)
    return shell


@pytest.fixture
async def talking(both: Shell) -> Shell:
    """Alice has written to bob, who knows her by that."""
    await both.done("send", BOB, "hello bob", "--profile", "alice")
    running = await both.start("chat", ALICE, "--profile", "bob")
    assert "hello bob" in await running.line()
    await running.end()
    return both
