"""The commands against a real server: register, link a second device, write, revoke.

One server lives through this module; the tests are its life, in order.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.shell import Running, Shell
from tests.cluster.server import Server

pytestmark = pytest.mark.cluster

ANN, BOB, NEW = "+15550001111", "+15550002222", "+15550003333"
SECONDS = 30.0
PROGRAM = (sys.executable, "-m", "raychat.main")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.start("--hosts=1", "--gateways=1")
    yield server
    server.close()


@pytest.fixture
def shell(server: Server) -> Shell:
    return Shell(server.folder / "home", server.url, PROGRAM)


async def with_code(server: Server, shell: Shell, number: str, *words: str) -> dict[str, Any]:
    """Run a command that asks for the code sent to a number, which comes to the console."""
    console = server.data / "console.txt"
    before = len(codes(console.read_text(), number)) if console.exists() else 0
    running = await shell.start(*words, "--json")
    async with asyncio.timeout(SECONDS):
        while not console.exists() or len(codes(console.read_text(), number)) == before:
            await asyncio.sleep(0.05)
    code, out, err = await running.end(codes(console.read_text(), number)[-1].encode() + b"\n")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def codes(console: str, number: str) -> list[str]:
    return [line.rpartition(" ")[2] for line in console.splitlines() if number in line]


async def rest(running: Running) -> list[dict[str, Any]]:
    """All that a command still prints with --json."""
    code, out, err = await running.end()
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


async def texts(shell: Shell, *words: str) -> list[str]:
    return [each["text"] for each in await shell.objects("history", *words)]


async def test_two_people_register_and_write(server: Server, shell: Shell) -> None:
    for number, profile in ((ANN, "ann"), (BOB, "bob")):
        found = await with_code(server, shell, number, "register", number, "--profile", profile)
        assert (found["number"], found["device"]) == (number, 1)
    sent = await shell.object("send", BOB, "before the laptop", "--profile", "ann")
    assert sent["state"] == "sent"
    reading = await shell.start("chat", ANN, "--profile", "bob")
    assert "before the laptop" in await reading.line()
    await reading.end()
    await shell.object("contacts", "accept", ANN, "--profile", "bob")


async def test_a_second_device_is_linked_by_two_commands(shell: Shell) -> None:
    new = await shell.start("link", "--profile", "laptop", "--name", "Laptop", "--json")
    shown = await new.json()
    assert shown["event"] == "code"
    primary = await shell.start(
        "link", shown["code"], "--yes", "--delay", "0", "--profile", "ann", "--json"
    )
    here, there = await asyncio.gather(rest(primary), rest(new))
    assert [each["event"] for each in here if each["event"] != "history"] == [
        "request",
        "linked",
        "done",
    ]
    assert (there[0]["event"], there[0]["number"], there[0]["device"]) == ("linked", ANN, 2)
    assert there[-1]["event"] == "done"
    assert await texts(shell, "--profile", "laptop") == ["before the laptop"]
    found = await shell.objects("devices", "--profile", "ann")
    assert [(each["device"], each["name"]) for each in found] == [(1, None), (2, "Laptop")]


async def test_both_devices_see_what_is_written(shell: Shell) -> None:
    await shell.done("send", ANN, "to both of you", "--profile", "bob")
    await shell.done("send", BOB, "from the laptop", "--profile", "laptop")
    for profile in ("ann", "laptop"):
        # Open for as long as it takes to fetch what waits.
        chat = await shell.start("chat", BOB, "--profile", profile)
        async with asyncio.timeout(SECONDS):
            while not {"to both of you", "from the laptop"} <= set(
                await texts(shell, "--profile", profile)
            ):
                await asyncio.sleep(0.1)
        await chat.end()
    found = await shell.objects("search", "both", "--profile", "laptop")
    assert [each["text"] for each in found] == ["to both of you"]


async def test_safety_numbers_are_the_accounts_on_every_device(shell: Shell) -> None:
    views = [
        await shell.object("verify", number, "--profile", profile)
        for number, profile in ((BOB, "ann"), (BOB, "laptop"), (ANN, "bob"))
    ]
    assert len({view["safety_number"] for view in views}) == 1
    assert [view["log"]["alarm"] for view in views] == [None] * 3
    assert [view["log"]["error"] for view in views] == [None] * 3
    scanned = await shell.object("verify", BOB, "--scan", views[2]["code"], "--profile", "ann")
    assert (scanned["same"], scanned["verified"]) == (True, True)
    heads = [
        await shell.object("verify", "--log", "--profile", profile) for profile in ("ann", "bob")
    ]
    assert heads[0]["key"] == heads[1]["key"]
    assert heads[0]["lists"] == 2
    compared = await shell.object("verify", "--compare", heads[1]["head"], "--profile", "ann")
    assert compared["agrees"] is True


async def test_a_revoked_device_is_cut_off(shell: Shell) -> None:
    chat = await shell.start("chat", BOB, "--profile", "laptop")
    await shell.object("revoke", "2", "--profile", "ann")
    async with asyncio.timeout(SECONDS):
        while "Not connecting any more" not in (line := await chat.line()):
            assert line, await chat.end()
    await chat.end()
    assert "[bad-token]" in await shell.error("devices", "--profile", "laptop")
    await shell.done("send", ANN, "only for the phone", "--profile", "bob")
    chat = await shell.start("chat", BOB, "--profile", "ann")
    async with asyncio.timeout(SECONDS):
        while "only for the phone" not in await chat.line():
            pass
    await chat.end()
    assert "only for the phone" not in await texts(shell, "--profile", "laptop")
    assert [each["device"] for each in await shell.objects("devices", "--profile", "ann")] == [1]


async def test_a_number_is_locked_and_changed_and_the_account_deleted(
    server: Server, shell: Shell
) -> None:
    as_ann = ("--profile", "ann")
    assert await shell.object("lock", *as_ann, RAYCHAT_PIN="123456") == {"locked": True}
    console = server.data / "console.txt"
    before = len(codes(console.read_text(), ANN))
    running = await shell.start("register", ANN, "--profile", "thief")
    async with asyncio.timeout(SECONDS):
        while len(codes(console.read_text(), ANN)) == before:
            await asyncio.sleep(0.05)
    wrong = codes(console.read_text(), ANN)[-1] + "\n000000\n"
    code, _, err = await running.end(wrong.encode())
    assert (code, "[bad-pin] 4 more tries" in err) == (1, True), err

    assert await with_code(server, shell, NEW, "number", NEW, *as_ann) == {"number": NEW}
    await shell.done("send", BOB, "my new number", *as_ann)
    assert "[locked]" in await shell.error("delete-account", "--yes", *as_ann)
    found = await shell.object("delete-account", "--yes", *as_ann, RAYCHAT_PIN="123456")
    assert found == {"deleted": True, "erased": False}
    assert "[bad-token]" in await shell.error("devices", *as_ann)
