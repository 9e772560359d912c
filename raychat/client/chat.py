"""`raychat chat`: a conversation in the terminal.

On a terminal the history fills the screen, with the marks of each message kept up to date, and
a line to write in below. On anything else (a pipe, a dumb terminal) messages are plain lines:
those read from stdin are sent, those received are printed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import aclosing, suppress
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
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Style

from raychat.client.acting import Peer
from raychat.client.client import Client
from raychat.client.display import fragments, line, printable
from raychat.client.events import (
    Connected,
    Disconnected,
    HistoryMoved,
    MessageReceived,
    NumberFound,
    Stopped,
    TypingSeen,
)
from raychat.client.model import Message
from raychat.client.notices import REQUEST, notice
from raychat.client.slash import LATEST, Slash, is_slash, numbered, unescaped
from raychat.client.stdin import read_lines
from raychat.clock import wall_ms
from raychat.errors import RaychatError

SHOWN: Final = LATEST
"""Messages of the history that can be scrolled back to."""

NOTICES: Final = 16
"""Lines that are shown below the messages: enough for /help."""

FLUSH_SECONDS: Final = 30
TYPING_MS: Final = 8_000
"""How often the other side is told that this person is writing, and how long that is shown."""

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
        "note": "ansiyellow",
        "number": "ansimagenta",
        "notice": "ansiyellow",
        "toolbar": "reverse",
        "prompt": "ansigreen",
    }
)


class Screen:
    """The full-screen chat with one peer."""

    def __init__(
        self,
        client: Client,
        peer: Peer,
        input: Input | None = None,
        output: Output | None = None,
        *,
        colored: bool = True,
    ) -> None:
        """`input` and `output` stand for the terminal in tests."""
        self._client = client
        self._peer = peer
        self._messages: list[Message] = []
        self._stale = True
        self._notices: list[str] = []
        self._state = "connecting"
        self._back = 0
        self._typing_until = 0
        self._typing_told = 0
        self._slash = Slash(client, peer)
        self._sending: set[asyncio.Task[None]] = set()
        self._buffer = Buffer(multiline=True, on_text_changed=self._typed)
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            style=STYLE,
            full_screen=True,
            min_redraw_interval=0.03,
            color_depth=None if colored else ColorDepth.DEPTH_1_BIT,
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
        numbers = numbered(self._messages) if is_slash(self._buffer.text) else {}
        for place, message in enumerate(self._messages, start=1):
            pieces: StyleAndTextTuples = list(fragments(message, now))
            if message.key in numbers:
                pieces.insert(0, ("class:number", f"#{numbers[message.key]} "))
            if place == cursor and self._back:
                shown.append(("[SetCursorPosition]", ""))
            shown += pieces
        shown += [("class:notice", f"— {text}\n") for text in self._notices[-NOTICES:]]
        if self._is_request():
            shown.append(("class:notice", f"— {REQUEST}\n"))
        if not self._back:
            shown.append(("[SetCursorPosition]", ""))
        return shown

    def _toolbar(self) -> StyleAndTextTuples:
        conversation = self._client.conversation(self._peer)
        title = printable(conversation.title) if conversation else str(self._peer)
        if wall_ms() < self._typing_until:
            title += " is writing …"
        where = f" · {self._back} back" if self._back else ""
        return [
            ("", f" {title} · {self._state}{where}"),
            ("", " · Enter sends, Alt-Enter breaks the line, PgUp scrolls, /help, Ctrl-C leaves "),
        ]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            text = self._buffer.text.strip()
            self._buffer.reset()
            self._back = 0
            if text:
                self._spawn(self._send(text))

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

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, text: str) -> None:
        self._notices.clear()
        try:
            if is_slash(text):
                self._notices += await self._slash.run(text)
            else:
                await self._client.send(self._peer, unescaped(text))
        except RaychatError as error:
            self._notices.append(str(error))
            self._buffer.text = text
        self._stale = True
        self._app.invalidate()

    def _typed(self, buffer: Buffer) -> None:
        """Let the other side know that something is being written, now and then."""
        now, text = wall_ms(), buffer.text
        if not text or text.startswith("/") or now < self._typing_told + TYPING_MS:
            return
        conversation = self._client.conversation(self._peer)
        if conversation is not None and conversation.account and conversation.accepted:
            self._typing_told = now
            self._spawn(self._tell_typing())

    async def _tell_typing(self) -> None:
        with suppress(RaychatError):
            await self._client.typing(self._peer)

    def _is_request(self) -> bool:
        conversation = self._client.conversation(self._peer)
        return (
            conversation is not None
            and conversation.is_request
            and any(not message.outgoing for message in self._messages)
        )

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
                    self._typing_until = 0
                    await self._client.mark_read(self._peer)
                case TypingSeen(where, active):
                    self._show_typing(where, active)
                case HistoryMoved(_, done, parts) if done < parts:
                    self._state = f"history {done}/{parts}"
                case HistoryMoved():
                    self._state = "connected"
            said = notice(event, self._client, self._peer)
            if said is not None:
                self._notices.append(said)
            self._stale = True
            self._app.invalidate()

    def _show_typing(self, where: int, active: bool) -> None:
        conversation = self._client.conversation(self._peer)
        if conversation is not None and conversation.id == where:
            self._typing_until = wall_ms() + 2 * TYPING_MS if active else 0
            # It goes away by itself too.
            asyncio.get_running_loop().call_later(2 * TYPING_MS / 1000, self._app.invalidate)


async def converse(client: Client, peer: Peer, *, colored: bool = True) -> None:
    """Chat on this process's terminal, in full if it is one. Raises StoreError."""
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        await Screen(client, peer, colored=colored).run()
    else:
        await plain(client, peer, sys.stdin, sys.stdout)


async def plain(client: Client, peer: Peer, source: TextIO, target: TextIO) -> None:
    """Send each line of `source`, print what is unread and received; ends with `source`.

    Lines that begin with a slash are commands only if a person types them.
    """
    await _print_unread(client, peer, target)
    slash = Slash(client, peer) if source.isatty() else None
    listener = asyncio.create_task(_print_events(client, peer, target))
    try:
        async with aclosing(read_lines(source)) as lines:
            async for text in lines:
                if not text.strip():
                    continue
                try:
                    await _do_line(client, peer, slash, text.rstrip("\n"), target)
                except RaychatError as error:
                    print(f"raychat: {error}", file=sys.stderr)
        if not await client.flush(FLUSH_SECONDS):
            print("raychat: no connection; the rest is sent the next time.", file=sys.stderr)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def _do_line(
    client: Client, peer: Peer, slash: Slash | None, text: str, target: TextIO
) -> None:
    if slash is None:
        await client.send(peer, text)
    elif is_slash(text):
        for said in await slash.run(text):
            print(f"— {said}", file=target, flush=True)
    else:
        await client.send(peer, unescaped(text))


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
