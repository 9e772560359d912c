"""`link` from both sides, `devices`, `revoke`, `logout`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from raychat.client.client import Client
from raychat.client.commands.link import about
from raychat.client.commands.terminal import qr
from raychat.crypto import IdentityKeyPair, KeyPair
from raychat.crypto.linking import LinkRequest
from tests.client.shell import Running, Shell

ALICE, BOB = "+15550001111", "+15550002222"


async def shown_code(shell: Shell, *words: str, profile: str = "laptop") -> tuple[Running, str]:
    """A new device that shows a code."""
    new = await shell.start("link", "--profile", profile, "--json", *words)
    shown = await new.json()
    assert (shown["event"], shown["seconds"]) == ("code", 60)
    return new, shown["code"]


async def events(running: Running) -> list[dict[str, Any]]:
    """All that a command still prints."""
    found = []
    while line := await running.line():
        found.append(json.loads(line))
    code, _, err = await running.end()
    assert code == 0, err
    return found


@pytest.fixture
async def linked(talking: Shell) -> Shell:
    """Alice has a laptop, and her history there."""
    new, code = await shown_code(talking, "--name", "Laptop", "--platform", "Linux")
    primary = await talking.start(
        "link", code, "--yes", "--delay", "0", "--profile", "alice", "--json"
    )
    there, here = await asyncio.gather(events(primary), events(new))
    assert [each["event"] for each in there][:2] == ["request", "linked"]
    assert there[0]["name"] == "Laptop"
    assert there[0]["platform"] == "Linux"
    assert there[1]["device"] == 2
    assert there[-1] == {"event": "done"}
    assert (here[0]["event"], here[0]["number"], here[0]["device"]) == ("linked", ALICE, 2)
    moved = [each for each in here if each["event"] == "history"]
    assert moved
    assert moved[-1]["done"] == moved[-1]["parts"]
    assert here[-1] == {"event": "done"}
    return talking


async def test_a_linked_device_has_the_history_and_all_see_it_in_the_list(linked: Shell) -> None:
    history = await linked.objects("history", "--profile", "laptop")
    assert [(each["text"], each["outgoing"]) for each in history] == [("hello bob", True)]
    found = await linked.objects("devices", "--profile", "alice")
    assert [(each["device"], each["name"], each["primary"], each["this"]) for each in found] == [
        (1, None, True, True),
        (2, "Laptop", False, False),
    ]
    assert all(each["seen"] == "2024-10-04" for each in found)
    assert set(found[0]) == {"device", "name", "primary", "this", "linked", "seen"}
    out = await linked.done("devices", "--profile", "laptop")
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        ["1", "primary"],
        ["2", "linked (this one)"],
    ]


async def test_only_the_primary_links_and_revokes(linked: Shell) -> None:
    assert "[denied]" in await linked.error("revoke", "1", "--profile", "laptop")
    assert "[denied]" in await linked.error("lock", RAYCHAT_PIN="1234", RAYCHAT_PROFILE="laptop")
    new, code = await shown_code(linked, profile="third")
    assert "[denied]" in await linked.error("link", code, "--yes", "--profile", "laptop")
    new.process.kill()
    await new.end()
    err = await linked.error("link", "--profile", "alice")
    assert "raychat link CODE" in err


async def test_a_revoked_device_is_cut_off(linked: Shell) -> None:
    assert await linked.object("revoke", "2", "--profile", "alice") == {"revoked": 2}
    assert "[not-found]" in await linked.error("revoke", "2", "--profile", "alice")
    assert "[denied]" in await linked.error("revoke", "1", "--profile", "alice")
    assert "[bad-token]" in await linked.error("devices", "--profile", "laptop")
    assert len(await linked.objects("devices", "--profile", "alice")) == 1


async def test_a_linked_device_can_leave(linked: Shell, tmp_path: Path) -> None:
    leave = ("logout", "--profile", "laptop")
    assert "[denied]" in await linked.error("logout", "--yes", "--profile", "alice")
    assert "[denied]" in await linked.error(*leave, stdin="no\n")
    found = await linked.object(*leave, "--yes", "--erase")
    assert found == {"left": True, "erased": True}
    assert not (tmp_path / "laptop").exists()
    assert "[not-registered]" in await linked.error(*leave, "--yes")


async def test_the_devices_are_listed_while_a_chat_is_open(linked: Shell, tmp_path: Path) -> None:
    async with Client("alice", home=tmp_path):
        found = await linked.objects("devices", "--profile", "alice")
    assert [(each["device"], each["seen"]) for each in found] == [(1, None), (2, None)]


async def test_nothing_is_linked_unless_the_person_types_yes(talking: Shell) -> None:
    new, code = await shown_code(talking)
    one, _, err = await talking.run("link", code, "--profile", "alice", stdin="y\n")
    assert (one, "[denied]" in err) == (1, True)
    assert "read what is written to you" in err
    assert "in front of you" in err
    assert len(await talking.objects("devices", "--profile", "alice")) == 1
    code_of_nobody = "raychat-link:" + "-".join(["AAAA"] * 8)
    assert "[link-expired]" in await talking.error("link", code_of_nobody, "--profile", "alice")
    assert "[bad-code]" in await talking.error("link", "HELLO", "--profile", "alice")
    # It is still the same link, for who means it; a code may be typed in lower case.
    typed = code.removeprefix("raychat-link:").lower().replace("-", " ")
    words = ("link", typed, "--profile", "alice", "--no-history", "--no-wait")
    assert "Device 2 is let in." in await talking.done(*words, stdin="yes\n")
    linked = await new.json()
    assert (linked["event"], linked["device"]) == ("linked", 2)
    new.process.kill()
    await new.end()


async def test_the_code_is_shown_for_people_too(both: Shell) -> None:
    new = await both.start("link", "--profile", "laptop", "--no-wait", "--color")
    lines = []
    while not (line := await new.line()).strip().startswith("raychat link "):
        lines.append(line)
    assert any("█" in each and "\x1b[48;5;16m" in each for each in lines)
    code = line.split()[-1]
    await both.done("link", code, "--yes", "--no-wait", "--profile", "alice")
    assert await new.line() == f"This is device 2 of {ALICE} now.\n"
    assert "device.key" in (await new.end())[1]


def test_what_is_to_be_linked_is_described() -> None:
    keys = KeyPair.generate().public, IdentityKeyPair.generate().public
    request = LinkRequest(*keys, "Laptop", "Linux", 1_700_000_000_000)
    said = about(request, history=True, now=1_700_000_000_000)
    assert "Laptop (Linux)" in said
    assert "all the messages" in said
    assert "no older messages" in about(request, history=False, now=0)


def test_a_code_is_drawn_with_a_border_and_no_colours_unless_wanted() -> None:
    plain = qr("raychat-link:" + "ABCD-" * 8, False)
    assert "\x1b" not in plain
    rows = plain.splitlines()
    assert len({len(row) for row in rows}) == 1
    assert set(rows[0]) == {"█"}
    assert len(qr(bytes(70), True).splitlines()) * 2 <= 60
