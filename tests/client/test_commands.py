"""The commands as a person runs them: in processes of their own, against a server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from raychat.errors import BadCode
from tests.client.service import CODE, Service
from tests.client.shell import Shell

ALICE, BOB = "+15550001111", "+15550002222"

COMMANDS = {
    "register": ("NUMBER", "--voice", "--challenge", "--code"),
    "link": ("CODE", "--no-history", "--yes", "--name"),
    "devices": ("--json",),
    "revoke": ("NUMBER",),
    "logout": ("--erase", "--yes"),
    "number": ("NEW", "--voice"),
    "lock": ("--remove", "--status"),
    "delete-account": ("--erase", "--yes"),
    "contacts": ("--requests", "accept", "block", "unblock", "mute", "archive", "pin"),
    "contacts accept": ("NUMBER",),
    "contacts block": ("NUMBER",),
    "contacts unblock": ("NUMBER",),
    "contacts name": ("NUMBER", "WORDS"),
    "contacts mute": ("--hours", "--off"),
    "contacts archive": ("--off",),
    "contacts pin": ("PLACE",),
    "chat": ("NUMBER", "--no-color"),
    "send": ("--wait", "--reply-to", "--view-once"),
    "history": ("--limit", "--no-color"),
    "search": ("WORDS", "--from", "--with", "--since", "--until", "--kind"),
    "export": ("--format", "--output", "-o", "--force"),
    "verify": ("--scan", "--mark", "--unmark", "--log", "--compare"),
}


async def test_every_command_says_what_it_does_and_takes(shell: Shell) -> None:
    texts = {}
    for some in (list(COMMANDS)[at : at + 4] for at in range(0, len(COMMANDS), 4)):
        helps = await asyncio.gather(*(shell.done(*c.split(), "--help") for c in some))
        texts |= dict(zip(some, helps, strict=True))
    for command, wanted in COMMANDS.items():
        assert not [word for word in (*wanted, "--profile") if word not in texts[command]], command
    listed = await shell.done("--help")
    assert all(command.split()[0] in listed for command in COMMANDS)


async def test_what_is_typed_wrong_is_a_usage_error(shell: Shell) -> None:
    for words in (("revoke", "two"), ("link", "--delay", "-1"), ("history", "--limit", "0")):
        code, _, err = await shell.run(*words)
        assert (code, "Traceback" in err) == (2, False), words


async def test_registering_asks_for_the_code_and_says_where_the_key_is(
    shell: Shell, tmp_path: Path
) -> None:
    code, out, err = await shell.run("register", ALICE, stdin=f"000000\n{CODE}\n")
    assert (code, BadCode.code in err) == (0, True), err
    assert "device.key" in out
    assert str(tmp_path / "default") in out
    code, out, _ = await shell.run("register", ALICE, "--code", CODE, "--json")
    assert json.loads(out)["incarnation"] == 2
    code, _, err = await shell.run("register", ALICE, "--code", "999999")
    assert (code, "[bad-code]" in err) == (1, True)
    code, _, err = await shell.run("register", ALICE)
    assert (code, "[denied]" in err) == (1, True)
    code, _, err = await shell.run("register", "me", "--code", CODE)
    assert (code, "[bad-number]" in err) == (1, True)


async def test_sending_and_reading_the_history(both: Shell) -> None:
    code, out, err = await both.run("send", BOB, "hello", "bob", "--profile", "alice")
    assert (code, out) == (0, "sent\n"), err
    receiving = asyncio.create_task(
        both.run("send", ALICE, "-", "--profile", "bob", "--wait", "sent", stdin="two\nlines\n")
    )
    assert (await receiving)[0] == 0
    code, out, _ = await both.run("history", "--profile", "bob")
    assert f"{ALICE}: hello bob" in out
    assert f"[{ALICE}]" in out
    code, out, _ = await both.run("history", ALICE, "--profile", "bob", "--json", "--limit", "2")
    shown = {message["text"]: message for message in map(json.loads, out.splitlines())}
    assert (shown["hello bob"]["outgoing"], shown["hello bob"]["number"]) == (False, ALICE)
    assert shown["two\nlines"]["state"] == "sent"
    code, out, err = await both.run(
        "send", BOB, "now?", "--profile", "alice", "--wait", "delivered", "--timeout", "0.5"
    )
    assert (code, "[timeout]" in err) == (1, True)
    assert (await both.run("history", "+15557777777", "--profile", "bob"))[1] == ""


async def test_two_people_chat_through_pipes(both: Shell) -> None:
    talking = asyncio.create_task(both.run("chat", BOB, "--profile", "alice", stdin="hi\n"))
    code, _, err = await talking
    assert code == 0, err
    code, out, err = await both.run("chat", ALICE, "--profile", "bob", stdin="hello\n")
    assert code == 0, err
    code, out, _ = await both.run("history", ALICE, "--profile", "bob")
    assert "hi" in out
    assert "hello" in out


async def test_errors_are_sentences_with_a_code(
    both: Shell, service: Service, tmp_path: Path
) -> None:
    code, _, err = await both.run("send", BOB, "hi", "--profile", "nobody")
    assert (code, "[not-registered]" in err, "raychat register" in err) == (1, True, True)
    assert not (tmp_path / "nobody").exists()
    code, _, err = await both.run("history", "--profile", "nobody")
    assert (code, "[not-registered]" in err) == (1, True)
    code, _, err = await both.run("send", "+15559999999", "hi", "--profile", "alice")
    assert (code, "[not-found]" in err) == (1, True)
    code, _, err = await both.run("send", BOB, "", "--profile", "alice")
    assert (code, "[malformed]" in err) == (1, True)
    await service.stop()
    code, _, err = await both.run("send", BOB, "hi", "--timeout", "0.5", "--profile", "alice")
    assert (code, "[timeout]" in err, "is kept" in err) == (1, True, True)
    code, _, err = await both.run("register", ALICE, "--code", CODE, "--profile", "other")
    assert (code, "[unavailable]" in err) == (1, True)
    assert "Traceback" not in err


async def test_a_profile_that_is_open_elsewhere_can_still_be_read(
    both: Shell, tmp_path: Path
) -> None:
    from raychat.client.client import Client

    async with Client("alice", home=tmp_path) as me:
        await (await me.send(BOB, "hi")).sent(10)
        code, _, err = await both.run("send", BOB, "hi", "--profile", "alice")
        assert (code, "[store-in-use]" in err) == (1, True)
        code, out, err = await both.run("history", BOB, "--profile", "alice")
        assert (code, "you: hi  ✓" in out) == (0, True), err


async def test_a_passphrase_locks_a_device(shell: Shell) -> None:
    code, out, err = await shell.run(
        "register", ALICE, "--code", CODE, RAYCHAT_PASSPHRASE="correct horse"
    )
    assert code == 0, err
    assert "device.key" not in out
    assert (await shell.run("history", RAYCHAT_PASSPHRASE="correct horse"))[0] == 0
    code, _, err = await shell.run("history")
    assert (code, "[store-locked]" in err) == (1, True)
