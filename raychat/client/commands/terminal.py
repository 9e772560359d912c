"""Asking and showing on a terminal: decisions, waiting, QR codes, tables, messages."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import segno
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raychat.client.commands.profile import Look, say
from raychat.client.display import fragments, line
from raychat.client.model import Message
from raychat.client.stdin import read_line

_DARK_ON_LIGHT: Final = "\x1b[38;5;231m\x1b[48;5;16m"
"""White blocks on black, whatever the terminal's own colours are: scanners want it so."""

_PLAIN: Final = "\x1b[0m"

STYLES: Final = {
    "class:time": "bright_black",
    "class:mine": "green",
    "class:theirs": "bold cyan",
    "class:note": "yellow",
    "class:queued": "bright_black",
    "class:sent": "bright_black",
    "class:delivered": "bright_black",
    "class:read": "bold blue",
    "class:failed": "red",
    "class:expired": "red",
}


def qr(content: str | bytes, colored: bool) -> str:
    """A QR code in half blocks, two rows of it in a line of text."""
    drawn = io.StringIO()
    segno.make(content, error="m", micro=False).terminal(drawn, border=2, compact=True)
    rows = drawn.getvalue().splitlines()
    if colored:
        rows = [f"{_DARK_ON_LIGHT}{row}{_PLAIN}" for row in rows]
    return "".join(row + "\n" for row in rows)


async def ask(prompt: str) -> str | None:
    """One typed line; None if there is nobody to type it."""
    say(prompt, end="")
    answer = await read_line(sys.stdin)
    return answer.strip() if answer is not None else None


async def agree(question: str) -> bool:
    """Whether the person types `yes`, in full."""
    return (await ask(f"{question} Type yes to go on: ") or "").casefold() == "yes"


@asynccontextmanager
async def countdown(text: str, seconds: int) -> AsyncIterator[None]:
    """Say how long something is still good, as long as the block takes; only on a terminal."""
    console = Console(stderr=True)

    async def count() -> None:
        with console.status("") as status:
            for left in range(seconds, -1, -1):
                status.update(text.format(left))
                await asyncio.sleep(1)

    task = asyncio.create_task(count()) if console.is_terminal else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], look: Look) -> None:
    """Rows in columns for people; with tabs between them for anything else."""
    if not sys.stdout.isatty() and look.color is not True:
        for row in rows:
            print("\t".join(row))
        return
    shown = Table(box=None, pad_edge=False, header_style="bright_black")
    for heading in headings:
        shown.add_column(heading)
    for row in rows:
        shown.add_row(*map(Text, row))
    _console(look).print(shown)


def show(messages: Sequence[Message], now: int, look: Look, *, everyone: bool = False) -> None:
    """Messages, one below the other. `everyone`: each with whom it is."""
    colored = look.is_colored()
    console = _console(look)
    for message in messages:
        about = f"[{message.conversation.title}] " if everyone and message.outgoing else ""
        if not colored:
            print(about + line(message, now))
            continue
        shown = Text(about, style="bright_black")
        for style, piece in fragments(message, now):
            shown.append(piece, style=STYLES.get(style, "default"))
        console.print(shown, end="", soft_wrap=True)


@contextmanager
def enough() -> Iterator[None]:
    """Print as long as anybody reads: `| head` is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(look: Look) -> Console:
    if not look.is_colored():
        return Console(highlight=False, no_color=True)
    return Console(
        highlight=False,
        force_terminal=True,
        no_color=False,
        color_system="standard" if look.color else "auto",  # asked for: also on no terminal
    )
