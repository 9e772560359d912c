"""What the load needs from a messenger: the seam between scenarios and protocols.

A driver implements `Wire` and `Connection`; the scenarios of `load` are written once against
these and never see a protocol. A `Wire` is pickled and sent to the generator processes, so it
holds plain data (addresses, credentials) and makes its sockets in `connect`.

The generator shares the cores with the server it measures, so every driver follows the same
rules, which keeps the comparison fair:

* no coroutine per message: `send` and `receipt` are plain calls that append to a buffer;
* one write per connection and turn of the event loop: the first append of a turn schedules a
  flush with `loop.call_soon`, the flush writes all that came together;
* parse only what the callbacks hand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .cpu import Processes

__all__ = ["Connection", "Handler", "Server", "Wire"]


class Handler(Protocol):
    """What a connection calls back, always from the event loop and without waiting."""

    def on_message(self, origin: object, payload: bytes) -> None:
        """A message came in. `origin` is the driver's own: it is only handed to `receipt`."""

    def on_receipt(self, message_id: int) -> None:
        """The recipient's receipt for a message sent here with `message_id` is back."""

    def on_accepted(self, message_id: int) -> None:
        """The server has acknowledged a message sent here (each id once, in any order)."""

    def on_failure(self, reason: str) -> None:
        """The server refused something, or the connection ended without being asked to."""


class Connection(Protocol):
    """One authenticated connection of one user."""

    def send(self, to: str, message_id: int, payload: bytes) -> None:
        """Queue a message to the user named `to`; ids are unique within the connection."""

    def receipt(self, origin: object) -> None:
        """Queue the delivery receipt for a message `on_message` handed over."""

    def acknowledge(self, origin: object) -> None:
        """Queue what lets the server forget a message, where that is not automatic.

        Called instead of `receipt` when the sender is long gone (draining). A protocol that
        acknowledges by itself does nothing here; one whose receipt is the acknowledgement
        sends that.
        """

    def close(self) -> None:
        """Say goodbye and close; nothing is called back afterwards."""


class Wire(Protocol):
    """A protocol driver: picklable, opens connections from inside an event loop."""

    async def connect(self, user: str, handler: Handler) -> Connection:
        """Connect and authenticate `user`; return when the user can send and receive.

        Messages that waited for the user may reach the handler before this returns.
        """


class Server(Protocol):
    """A running system under test."""

    @property
    def name(self) -> str:
        """The `system` of its results, such as `ejabberd-memory`."""

    @property
    def processes(self) -> Processes:
        """Every server process, for CPU and memory accounting."""

    def wire(self, users: Sequence[str]) -> Wire:
        """Make sure the accounts of `users` exist and return a driver that can connect them."""
