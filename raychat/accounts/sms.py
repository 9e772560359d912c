"""Text messages to phone numbers, through whichever provider is given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from raychat.errors import Unavailable
from raychat.ids import PhoneNumber


class Sms(Protocol):
    """A provider. A later one calls a web service, so sending may take a while."""

    async def send(self, number: PhoneNumber, text: str) -> None:
        """Hand the text over for delivery. Raises Unavailable, after which it may be repeated."""


class ConsoleSms:
    """Writes texts into a file instead, a line each, for the person who runs the server."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, number: PhoneNumber, text: str) -> None:
        line = f"SMS to {number}: {text}\n".encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(fd, 0o600)  # codes are in it, and the file may be older than we are
                os.write(fd, line)  # in one piece: someone reads along
            finally:
                os.close(fd)
        except OSError as error:
            raise Unavailable("The text message could not be sent; try again later.") from error
