"""Runs commands as a person does: in processes of their own, with a home of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

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

SECONDS = 60


class Running:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            return (await self.process.stdout.readline()).decode()

    async def json(self) -> dict[str, Any]:
        """The same as an object."""
        line = await self.line()
        if not line:
            _, err = await self.process.communicate()
            raise AssertionError(err.decode())
        found: dict[str, Any] = json.loads(line)
        return found

    async def end(self, stdin: bytes = b"") -> tuple[int, str, str]:
        """Its exit code, the rest of stdout, and stderr."""
        async with asyncio.timeout(SECONDS):
            out, err = await self.process.communicate(stdin)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


class Shell:
    """`program`: how the command is started."""

    def __init__(
        self, home: Path, url: str, program: tuple[str, ...] = (sys.executable, "-c", PROGRAM)
    ) -> None:
        self.program = program
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.getcwd(),
            "RAYCHAT_HOME": str(home),
            "RAYCHAT_SERVER": url,
            "TERM": "dumb",
        }

    async def start(self, *words: str, **env: str) -> Running:
        process = await asyncio.create_subprocess_exec(
            *self.program,
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.env | env,
            start_new_session=True,  # no terminal to ask on
        )
        return Running(process)

    async def run(self, *words: str, stdin: str | bytes = "", **env: str) -> tuple[int, str, str]:
        running = await self.start(*words, **env)
        return await running.end(stdin.encode() if isinstance(stdin, str) else stdin)

    async def done(self, *words: str, stdin: str | bytes = "", **env: str) -> str:
        """What a command prints that has no error."""
        code, out, err = await self.run(*words, stdin=stdin, **env)
        assert code == 0, err
        return out

    async def objects(self, *words: str, **env: str) -> list[dict[str, Any]]:
        """What a command prints with --json."""
        out = await self.done(*words, "--json", **env)
        return [json.loads(line) for line in out.splitlines()]

    async def object(self, *words: str, **env: str) -> dict[str, Any]:
        (found,) = await self.objects(*words, **env)
        return found

    async def error(self, *words: str, stdin: str | bytes = "", **env: str) -> str:
        """What a command says that ends with an error."""
        code, _, err = await self.run(*words, stdin=stdin, **env)
        assert code == 1, (code, err)
        assert "Traceback" not in err
        return err
