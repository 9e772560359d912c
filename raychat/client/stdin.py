"""Lines of stdin without holding up anything else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final, TextIO

LINES_AHEAD: Final = 100


async def read_lines(source: TextIO) -> AsyncGenerator[str, None]:
    """Lines as they come, with their ends.

    A thread reads them, since a file or terminal cannot be waited for otherwise. It does not
    keep the process alive, so that Ctrl-C needs no Enter after it.
    """
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
