"""The commands on a real terminal: colours, hidden PINs, codes to scan, Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import termios
from pathlib import Path

import pytest

from raychat.client.client import Client
from tests.client.service import CODE
from tests.client.shell import SECONDS, Shell

ALICE, BOB = "+15550001111", "+15550002222"
PIN = "the secret pin"


class Terminal:
    """A command that runs on a pseudo-terminal of its own."""

    def __init__(self, shell: Shell, *words: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [*shell.program, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=shell.env | {"TERM": "xterm-256color", "COLUMNS": "100"} | env,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self.master, False)

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65_536):
                self.shown += data.decode(errors="replace")
        except (BlockingIOError, OSError):  # nothing more, for now or at all
            return

    async def until(self, words: str) -> None:
        """Until the screen has shown something."""
        async with asyncio.timeout(SECONDS):
            while words not in self.shown:
                over = self.process.poll() is not None
                self._read()
                assert words in self.shown or not over, self.shown
                await asyncio.sleep(0.02)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    async def end(self) -> int:
        async with asyncio.timeout(SECONDS):
            while self.process.poll() is None:
                self._read()
                await asyncio.sleep(0.02)
        self._read()
        os.close(self.master)
        return self.process.wait()


async def test_a_pin_is_typed_without_being_shown(shell: Shell) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    running = Terminal(shell, "lock")
    await running.until("New PIN")
    assert not running.echoes()
    running.type(f"{PIN}\n")
    await running.until("Once more")
    running.type(f"{PIN}\n")
    await running.until("is locked")
    assert await running.end() == 0
    assert PIN not in running.shown

    running = Terminal(shell, "register", ALICE, "--profile", "again")
    await running.until("The 6-digit code")
    assert running.echoes()
    running.type(f"{CODE}\n")
    await running.until("[locked]")
    await running.until("PIN: ")
    running.type(f"{PIN}\n")
    await running.until("is registered")
    assert await running.end() == 0


async def test_ctrl_c_leaves_the_terminal_as_it_was(shell: Shell) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    running = Terminal(shell, "lock")
    await running.until("New PIN")
    assert not running.echoes()
    running.process.send_signal(2)
    async with asyncio.timeout(SECONDS):
        while not running.echoes() and running.process.poll() is None:
            await asyncio.sleep(0.02)
    assert running.echoes()
    assert await running.end() != 0


async def test_a_new_device_shows_its_code_and_how_long_it_is_good(
    shell: Shell, tmp_path: Path
) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    running = Terminal(shell, "link", "--profile", "laptop")
    await running.until("s more")
    assert "█" in running.shown
    found = re.search(r"raychat link (raychat-link:[0-9A-Z-]+)", running.shown)
    assert found is not None

    primary = Terminal(shell, "link", found[1], "--delay", "0")
    await primary.until("Type yes")
    assert "in front of you" in primary.shown
    primary.type("yes\n")
    await running.until("This is device 2")
    await running.until("The history is there.")
    await primary.until("The history is there.")
    assert (await running.end(), await primary.end()) == (0, 0)
    running = Terminal(shell, "devices")
    await running.until("last there")
    assert await running.end() == 0
    assert "linked" not in running.shown
    assert "primary (this one)" in running.shown


async def test_colours_are_on_unless_switched_off(talking: Shell) -> None:
    words = ("history", "--profile", "alice")
    for more, env, is_colored in (
        ((), {}, True),
        (("--no-color",), {}, False),
        ((), {"NO_COLOR": "1"}, False),
        (("--color",), {"NO_COLOR": "1"}, True),
    ):
        running = Terminal(talking, *words, *more, **env)
        assert await running.end() == 0
        assert ("\x1b[" in running.shown) == is_colored, (more, env)
        assert "hello bob" in running.shown


async def test_a_safety_number_has_a_code_to_scan(talking: Shell, tmp_path: Path) -> None:
    running = Terminal(talking, "verify", BOB, "--profile", "alice")
    assert await running.end() == 0
    assert "█" in running.shown
    running = Terminal(talking, "verify", BOB, "--no-qr-code", "--profile", "alice")
    assert await running.end() == 0
    assert "█" not in running.shown


async def test_the_chat_fills_the_screen_and_ends_with_ctrl_c(
    talking: Shell, tmp_path: Path
) -> None:
    running = Terminal(talking, "chat", BOB, "--profile", "alice", "--no-color")
    await running.until("hello bob")
    running.type("/help\r")
    await running.until("/verify")
    running.type("\x03")
    assert await running.end() == 0
    async with Client("alice", home=tmp_path) as alice:
        assert len(alice.history()) == 1


@pytest.fixture(autouse=True)
def _english(shell: Shell) -> None:
    shell.env["LC_ALL"] = "C.UTF-8"
