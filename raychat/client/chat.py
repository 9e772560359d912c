"""`raychat chat`: a conversation in the terminal.

On a terminal the history fills the screen, with the marks of each message kept up to date, and
a line to write in below. On anything else (a pipe, a dumb terminal) messages are plain lines:
those read from stdin are sent, those received are printed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing
from typing import Final, TextIO

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from raychat.client.acting import Peer
from raychat.client.client import Client
from raychat.client.display import fragments, line, printable
from raychat.client.events import (
    Connected,
    Disconnected,
    Event,
    Expired,
    Failed,
    IdentityChanged,
    MessageReceived,
    NumberFound,
    Stopped,
    Undecryptable,
)
from raychat.client.model import Message
from raychat.client.stdin import read_lines
from raychat.clock import wall_ms
from raychat.errors import RaychatError

SHOWN: Final = 500
"""Messages of the history that can be scrolled back to."""

FLUSH_SECONDS: Final = 30

STYLE: Final = Style.from_dict(
    {
        "time": "ansibrightblack",
        "mine": "ansigreen",
        "theirs": "ansicyan bold",
        "queued": "ansibrightblack",
        "sent": "ansibrightblack",
        "delivered": "ansibrightblack",
        "read": "ansiblue bold",
        "failed": "ansired",
        "expired": "ansired",
        "notice": "ansiyellow",
        "toolbar": "reverse",
        "prompt": "ansigreen",
    }
)


def notice(event: Event, client: Client, peer: Peer) -> str | None:
    """The sentence for an event a person should know of, None for any other."""
    conversation = client.conversation(peer)
    account = conversation.account if conversation else None
    match event:
        case Failed(_, where, error) if conversation and where == conversation.id:
            return f"A message was not sent: {error}"
        case Expired(_, where, _) if conversation and where == conversation.id:
            return "A message was never fetched and has expired."
        case Undecryptable(sender, _, error) if sender == account:
            return f"A message could not be opened, and its sender knows: {error}"
        case IdentityChanged(who, _) if who == account:
            return "The identity key of this contact has changed; compare safety numbers."
        case Stopped(error):
            return f"Not connecting any more: {error}"
    return None


class Screen:
    """The full-screen chat with one peer."""

    def __init__(
        self, client: Client, peer: Peer, input: Input | None = None, output: Output | None = None
    ) -> None:
        """`input` and `output` stand for the terminal in tests."""
        self._client = client
        self._peer = peer
        self._messages: list[Message] = []
        self._stale = True
        self._notices: list[str] = []
        self._state = "connecting"
        self._back = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._buffer = Buffer(multiline=True)
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            style=STYLE,
            full_screen=True,
            min_redraw_interval=0.03,
            input=input,
            output=output,
        )

    async def run(self) -> None:
        """Until the person leaves. Raises StoreError."""
        await self._client.mark_read(self._peer)
        listener = asyncio.create_task(self._listen())
        try:
            await self._app.run_async()
        finally:
            listener.cancel()
            await asyncio.gather(listener, *self._sending, return_exceptions=True)

    def _layout(self) -> Layout:
        history = FormattedTextControl(self._history, focusable=False, show_cursor=False)
        writing = Window(
            BufferControl(self._buffer, input_processors=[BeforeInput("› ", "class:prompt")]),
            height=Dimension(min=1, max=8),
            dont_extend_height=True,
            wrap_lines=True,
        )
        toolbar = Window(FormattedTextControl(self._toolbar), height=1, style="class:toolbar")
        window = Window(history, wrap_lines=True)
        return Layout(HSplit([window, toolbar, writing]), focused_element=writing)

    def _history(self) -> StyleAndTextTuples:
        if self._stale:
            self._messages = self._client.history(self._peer, limit=SHOWN)
            self._stale = False
        now = wall_ms()
        shown: StyleAndTextTuples = []
        cursor = len(self._messages) - self._back
        for place, message in enumerate(self._messages, start=1):
            pieces: StyleAndTextTuples = list(fragments(message, now))
            if place == cursor and self._back:
                shown.append(("[SetCursorPosition]", ""))
            shown += pieces
        shown += [("class:notice", f"— {text}\n") for text in self._notices[-5:]]
        if not self._back:
            shown.append(("[SetCursorPosition]", ""))
        return shown

    def _toolbar(self) -> StyleAndTextTuples:
        conversation = self._client.conversation(self._peer)
        title = printable(conversation.title) if conversation else str(self._peer)
        where = f" · {self._back} back" if self._back else ""
        return [
            ("", f" {title} · {self._state}{where}"),
            ("", " · Enter sends, Alt-Enter breaks the line, PgUp scrolls, Ctrl-C leaves "),
        ]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            text = self._buffer.text.strip()
            self._buffer.reset()
            self._back = 0
            if text:
                task = asyncio.ensure_future(self._send(text))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            self._buffer.insert_text("\n")

        @keys.add("pageup")
        def _(event: KeyPressEvent) -> None:
            self._back = min(self._back + 10, max(0, len(self._messages) - 1))

        @keys.add("pagedown")
        def _(event: KeyPressEvent) -> None:
            self._back = max(0, self._back - 10)

        @keys.add("c-c")
        @keys.add("c-d")
        def _(event: KeyPressEvent) -> None:
            event.app.exit()

        return keys

    async def _send(self, text: str) -> None:
        try:
            await self._client.send(self._peer, text)
        except RaychatError as error:
            self._notices.append(str(error))
            self._buffer.text = text
        self._stale = True
        self._app.invalidate()

    async def _listen(self) -> None:
        async for event in self._client.events():
            match event:
                case Connected():
                    self._state = "connected"
                case Disconnected():
                    self._state = "connecting"
                case Stopped():
                    self._state = "stopped"
                case MessageReceived() | NumberFound():
                    await self._client.mark_read(self._peer)
            said = notice(event, self._client, self._peer)
            if said is not None:
                self._notices.append(said)
            self._stale = True
            self._app.invalidate()


async def converse(client: Client, peer: Peer) -> None:
    """Chat on this process's terminal, in full if it is one. Raises StoreError."""
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        await Screen(client, peer).run()
    else:
        await plain(client, peer, sys.stdin, sys.stdout)


async def plain(client: Client, peer: Peer, source: TextIO, target: TextIO) -> None:
    """Send each line of `source`, print what is unread and received; ends with `source`."""
    await _print_unread(client, peer, target)
    listener = asyncio.create_task(_print_events(client, peer, target))
    try:
        async with aclosing(read_lines(source)) as lines:
            async for text in lines:
                if not text.strip():
                    continue
                try:
                    await client.send(peer, text.rstrip("\n"))
                except RaychatError as error:
                    print(f"raychat: {error}", file=sys.stderr)
        if not await client.flush(FLUSH_SECONDS):
            print("raychat: no connection; the rest is sent the next time.", file=sys.stderr)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def _print_events(client: Client, peer: Peer, target: TextIO) -> None:
    async for event in client.events():
        said = notice(event, client, peer)
        if said is not None:
            print(f"— {said}", file=target, flush=True)
        if isinstance(event, MessageReceived | NumberFound):
            await _print_unread(client, peer, target)


async def _print_unread(client: Client, peer: Peer, target: TextIO) -> None:
    """Only what was printed counts as read."""
    while unread := client.unread_messages(peer, limit=SHOWN):
        for message in unread:
            print(line(message, wall_ms()), file=target, flush=True)
        await client.mark_read(peer, unread[-1])
