"""The commands as a person runs them: in processes of their own, against a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from raychat.errors import BadCode
from tests.client.service import CODE, Service

ALICE, BOB = "+15550001111", "+15550002222"

PROGRAM = """
import sys, cyclopts
from raychat.client import commands
from raychat.errors import RaychatError
app = cyclopts.App(name="raychat")
commands.add_to(app)
try:
    sys.exit(app(result_action="return_value"))
except RaychatError as error:
    print(f"raychat: {error}", file=sys.stderr)
    sys.exit(1)
"""


class Shell:
    """Runs commands with a home of their own."""

    def __init__(self, home: Path, service: Service) -> None:
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.getcwd(),
            "RAYCHAT_HOME": str(home),
            "RAYCHAT_SERVER": service.url,
            "TERM": "dumb",
        }

    async def run(self, *words: str, stdin: str = "", **env: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.env | env,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def shell(tmp_path: Path, service: Service) -> Shell:
    return Shell(tmp_path, service)


@pytest.fixture
async def both(shell: Shell) -> Shell:
    for number, profile in ((ALICE, "alice"), (BOB, "bob")):
        code, _, err = await shell.run("register", number, "--code", CODE, "--profile", profile)
        assert code == 0, err
    return shell


async def test_registering_asks_for_the_code_and_says_where_the_key_is(
    shell: Shell, tmp_path: Path
) -> None:
    code, out, err = await shell.run("register", ALICE, stdin=f"000000\n{CODE}\n")
    assert (code, BadCode.code in err) == (0, True)
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
