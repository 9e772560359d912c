"""`raychat demo`: two phones talk, on a server of their own that is gone afterwards.

Everything is real: `raychat up` with a Ray actor for each user, two devices of the SDK,
registration by a code, end-to-end encryption, an offline recipient and a killed host.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from raychat.client.client import Client
from raychat.client.events import MessageReceived
from raychat.client.http import Registration
from raychat.client.model import Message, State
from raychat.errors import BadCode, RaychatError, Timeout
from raychat.ids import account_text

ANN: Final = "+15550001111"
BOB: Final = "+15550002222"
T = TypeVar("T")

STEP_SECONDS: Final = 60
MARKS: Final = {State.SENT: "✓ ", State.DELIVERED: "✓✓", State.READ: "[blue]✓✓[/blue]"}


def demo(*, keep: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Show two phones talking: start a server, register, write, kill, stop. Takes half a minute.

    Parameters
    ----------
    keep
        Leave the data directory behind and say where it is.
    """
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="raychat-demo-"))
    try:
        with console.status("starting a server with a Ray actor per user …"):
            server = _Server(folder / "server")
        try:
            asyncio.run(_Demo(console, folder, server).run())
        finally:
            with console.status("stopping the server …"):
                server.stop()
        console.print("\n[bold]done[/bold]: everything stopped, nothing was lost")
    finally:
        if keep:
            console.print("kept in", str(folder), soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


class _Server:
    """`raychat up --placement dedicated`, as a process."""

    def __init__(self, data: Path) -> None:
        self.data = data
        data.mkdir()
        self._log = (data / "up.log").open("w")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "raychat.main",
                "up",
                "--json",
                "--port=0",
                f"--data={data}",
                "--placement=dedicated",
                "--dashboard-port=0",
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(STEP_SECONDS)
            raise RaychatError(f"The server did not start:\n{(data / 'up.log').read_text()}")
        self.address: dict[str, Any] = json.loads(line)

    def code(self) -> str:
        """The latest code on the console, which is where this server's text messages go."""
        lines = (self.data / "console.txt").read_text().splitlines()
        return lines[-1].rpartition(" ")[2]

    def actors(self) -> list[dict[str, Any]]:
        """The Ray actors, as the Ray dashboard lists them."""
        from raychat.cluster.token import use_ray_token

        use_ray_token(self.data)
        from ray.util.state import list_actors

        found = list_actors(address=self.address["dashboard"], detail=True, limit=1000)
        return [
            {"name": actor.name, "class": actor.class_name, "pid": actor.pid}
            for actor in found
            if actor.state == "ALIVE" and actor.name
        ]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


class _Demo:
    """The play itself."""

    def __init__(self, console: Console, folder: Path, server: _Server) -> None:
        self._console = console
        self._folder = folder
        self._server = server
        self._began = time.perf_counter()

    def _say(self, who: str, what: str) -> None:
        at = time.perf_counter() - self._began
        self._console.print(
            f"[dim]{at:6.2f} s[/dim]  [bold]{who:<6}[/bold] {what}", highlight=False
        )

    async def run(self) -> None:
        self._say("server", f"is up at {self._server.address['gateway']}")
        for name, number in (("ann", ANN), ("bob", BOB)):
            await self._register(name, number)
        async with self._client("ann") as ann, self._client("bob") as bob:
            await ann.connected(STEP_SECONDS)
            await bob.connected(STEP_SECONDS)
            await self._both_ways(ann, bob)
            self._show_actors(ann, bob)
        async with self._client("ann") as ann:
            await ann.connected(STEP_SECONDS)
            waiting = await self._to_the_offline(ann)
            async with self._client("bob") as bob:
                await self._back_online(ann, bob, waiting)
                await self._kill(ann, bob)
                self._transcript(ann)

    def _client(self, name: str) -> Client:
        return Client(name, home=self._folder)

    async def _register(self, name: str, number: str) -> None:
        async def code(_registration: Registration, wrong: BadCode | None) -> str:
            if wrong is not None:
                raise wrong
            return self._server.code()

        began = time.perf_counter()
        await Client.register(
            number, code=code, server=self._server.address["gateway"], profile=name,
            home=self._folder,
        )  # fmt: skip
        took = time.perf_counter() - began
        self._say(name, f"is registered by the code that came to {number} ({took:.2f} s)")

    async def _marks(self, message: Message, began: float) -> str:
        """Wait for ✓ and ✓✓, and say how long each took."""
        await message.sent(STEP_SECONDS)
        sent = time.perf_counter() - began
        await message.delivered(STEP_SECONDS)
        delivered = time.perf_counter() - began
        return f"✓ {sent * 1000:.0f} ms  ✓✓ {delivered * 1000:.0f} ms"

    async def _write(self, who: str, sender: Client, to: Client, text: str) -> None:
        began = time.perf_counter()
        message = await sender.send(to.number, text)
        marks = await self._marks(message, began)
        await to.mark_read(sender.account)
        await message.read(STEP_SECONDS)
        read = (time.perf_counter() - began) * 1000
        self._say(who, f"{text}   [dim]{marks}  [blue]✓✓[/blue] {read:.0f} ms[/dim]")

    async def _both_ways(self, ann: Client, bob: Client) -> None:
        await bob.accept(ann.account)  # a stranger gets no ✓✓
        await self._write("ann", ann, bob, "Hi Bob, only you can read this.")
        await self._write("bob", bob, ann, "Hi Ann! The server cannot, I hope?")
        await self._write("ann", ann, bob, "It sees addresses, sizes and times.")

    def _show_actors(self, ann: Client, bob: Client) -> None:
        users = {f"user-{account_text(c.account)}": n for c, n in ((ann, "ann"), (bob, "bob"))}
        table = Table(
            "actor", "class", "process", "", title="Ray actors, as the dashboard lists them"
        )
        for actor in sorted(self._server.actors(), key=lambda actor: str(actor["name"])):
            table.add_row(
                actor["name"], actor["class"], str(actor["pid"]), users.get(actor["name"], "")
            )
        self._console.print(table)

    async def _to_the_offline(self, ann: Client) -> list[Message]:
        self._say("bob", "goes offline")
        waiting = []
        for text in ("Are you there?", "I will be at the station at six."):
            began = time.perf_counter()
            message = await ann.send(BOB, text)
            await message.sent(STEP_SECONDS)
            took = (time.perf_counter() - began) * 1000
            self._say("ann", f"{text}   [dim]✓ {took:.0f} ms, durable in his inbox[/dim]")
            waiting.append(message)
        return waiting

    async def _back_online(self, ann: Client, bob: Client, waiting: list[Message]) -> None:
        began = time.perf_counter()
        for text in await _within(_received(bob, len(waiting))):
            self._say("bob", f"[dim]comes back and reads:[/dim] {text}")
        for message in waiting:
            await message.delivered(STEP_SECONDS)
        took = (time.perf_counter() - began) * 1000
        self._say("ann", f"[dim]sees ✓✓ for both, {took:.0f} ms after he came back[/dim]")
        await bob.mark_read(ann.account)

    async def _kill(self, ann: Client, bob: Client) -> None:
        name = f"user-{account_text(bob.account)}"
        pid = next(a["pid"] for a in self._server.actors() if a["name"] == name)
        os.kill(pid, signal.SIGKILL)
        self._say("server", f"kill -9 {pid}: the host of bob's User is gone")
        began = time.perf_counter()
        message = await ann.send(BOB, "Still there?")
        marks = await self._marks(message, began)
        self._say("ann", f"Still there?   [dim]{marks}: Ray restarted it[/dim]")
        await self._write("bob", bob, ann, "Never left. Nothing was lost.")
        await bob.mark_read(ann.account)

    def _transcript(self, ann: Client) -> None:
        table = Table("", "message", "mark", title="ann's history, from her encrypted file")
        for message in ann.history(BOB):
            who = "ann" if message.outgoing else "bob"
            mark = MARKS.get(message.state, "") if message.outgoing else ""
            table.add_row(who, message.text or "", mark)
        self._console.print(table)


async def _received(client: Client, count: int) -> list[str]:
    texts: list[str] = []
    async for event in client.events():
        if isinstance(event, MessageReceived):
            texts.append(event.message.text or "")
            if len(texts) == count:
                break
    return texts


async def _within(work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return await work
    except TimeoutError as error:
        raise Timeout from error
