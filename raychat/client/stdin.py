"""What is typed, without holding up anything else.

Threads read it, since a file or terminal cannot be waited for otherwise. They do not keep the
process alive, so that Ctrl-C needs no Enter after it.
"""

from __future__ import annotations

import asyncio
import getpass
import sys
import termios
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final, TextIO, TypeVar

T = TypeVar("T")

LINES_AHEAD: Final = 100


async def read_lines(source: TextIO) -> AsyncGenerator[str, None]:
    """Lines as they come, with their ends."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue(LINES_AHEAD)

    def put(text: str | None) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(text), loop).result()

    def read() -> None:
        # RuntimeError: the loop is closed. CancelledError: it is closing.
        with suppress(RuntimeError, asyncio.CancelledError, ValueError):
            for text in source:
                put(text)
            put(None)

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while (text := await queue.get()) is not None:
        yield text


async def read_line(source: TextIO) -> str | None:
    """One line without its end, and no more of the source; None if it is at its end."""
    text = await _in_thread(source.readline)
    return text.rstrip("\r\n") if text else None


async def read_hidden(prompt: str) -> str | None:
    """What is typed on this process's terminal without showing it; a line of stdin if that is no
    terminal."""
    if not sys.stdin.isatty():
        return await read_line(sys.stdin)
    before = termios.tcgetattr(sys.stdin)
    try:
        return await _in_thread(lambda: getpass.getpass(prompt))
    finally:  # after Ctrl-C the thread would leave the terminal silent
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def _in_thread(call: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = call()
        except (OSError, EOFError, ValueError) as error:
            failure = error
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, daemon=True, name="stdin").start()
    return await future
