"""Two people who can write to each other, in a world without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from raychat.client.client import Client
from raychat.client.http import Registration
from raychat.errors import BadCode
from tests.client.service import CODE, Service
from tests.client.shell import Shell
from tests.client.world import Device, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def alice(world: World) -> Device:
    return world.device("+15550001111")


@pytest.fixture
def bob(world: World) -> Device:
    return world.device("+15550002222")


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
def shell(tmp_path: Path, service: Service) -> Shell:
    return Shell(tmp_path, service.url)


@pytest.fixture
async def both(shell: Shell) -> Shell:
    """A shell with the registered profiles alice and bob."""
    for number, profile in (("+15550001111", "alice"), ("+15550002222", "bob")):
        await shell.done("register", number, "--code", CODE, "--profile", profile)
    return shell


@pytest.fixture
async def talking(both: Shell) -> Shell:
    """Alice has written to bob, who knows her by that."""
    await both.done("send", "+15550002222", "hello bob", "--profile", "alice")
    running = await both.start("chat", "+15550001111", "--profile", "bob")
    assert "hello bob" in await running.line()
    await running.end()
    return both
