"""The person's commands: `register`, `chat`, `send`, `history`.

Each raises RaychatErrors, which the one command says on stderr; exit codes are 0 done, 1 an
error, 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cyclopts
from cyclopts import Parameter

from raychat.client import keyfile
from raychat.client.client import Client
from raychat.client.display import as_json as to_json
from raychat.client.display import fragments, lines
from raychat.client.http import Registration
from raychat.client.model import Message, State
from raychat.client.numbers import phone_number, recipient
from raychat.client.stdin import read_lines
from raychat.client.store import DeviceStore
from raychat.clock import wall_ms
from raychat.errors import BadCode, BadRequest, Denied, NotRegistered, Timeout
from raychat.ids import account_text

T = TypeVar("T")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


class Wait(StrEnum):
    """How far a message is to come before `send` returns."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"


@Parameter(name="*")
@dataclass(frozen=True)
class Profile:
    """Which device."""

    profile: str | None = None
    "Name of the profile (default $RAYCHAT_PROFILE, else default)."

    home: Path | None = None
    "Directory of the profiles (default $RAYCHAT_HOME, else $XDG_DATA_HOME/raychat)."

    server: str | None = None
    "URL of the server (default: that of the registration, $RAYCHAT_SERVER, http://127.0.0.1:8443)."

    passphrase: Annotated[bool, Parameter(negative=())] = False
    "Ask for the passphrase that locks this device ($RAYCHAT_PASSPHRASE is used without asking)."

    @property
    def directory(self) -> Path:
        return keyfile.directory(self.profile, self.home)

    def secret(self, *, new: bool = False) -> str | None:
        """The passphrase, if there is to be one. Raises BadRequest."""
        given = os.environ.get("RAYCHAT_PASSPHRASE")
        if given or not self.passphrase:
            return given or None
        asked = getpass.getpass("Passphrase: ")
        if new and getpass.getpass("Once more: ") != asked:
            raise BadRequest("The two passphrases differ.")
        return asked or None

    def client(self) -> Client:
        """Raises NotRegistered if the profile has no device."""
        if not (self.directory / "device.db").exists():
            raise NotRegistered
        server = self.server or os.environ.get("RAYCHAT_SERVER")
        return Client(self.profile, home=self.home, server=server, passphrase=self.secret())


_DEFAULT = Profile()


def add_to(app: cyclopts.App) -> None:
    """Put the person's commands into the one command."""
    app.command(register)
    app.command(chat)
    app.command(send)
    app.command(history)


def register(
    number: str,
    *,
    code: str | None = None,
    device: Profile = _DEFAULT,
    as_json: AsJson = False,
) -> int:
    """Make this profile a device of a phone number. The server sends a code to the number.

    Parameters
    ----------
    number
        The phone number with its country, like +15550001111.
    code
        The code, for use without asking.
    as_json
        Print the outcome as one JSON object.
    """
    directory = device.directory
    new = not (directory / "device.key").exists()
    secret = device.secret(new=new)
    typed = read_lines(sys.stdin)

    async def ask(registration: Registration, wrong: BadCode | None) -> str:
        if code is not None:
            if wrong is not None:
                raise wrong
            return code
        if wrong is not None:
            print(f"raychat: {wrong}", file=sys.stderr)
        prompt = f"The {registration.digits}-digit code sent to {phone_number(number)}: "
        print(prompt, end="", file=sys.stderr, flush=True)
        answer = await anext(typed, None)
        if answer is None:
            raise Denied("No code was given; run this again when it has come.")
        return answer.strip()

    async def go() -> None:
        async with aclosing(typed):
            await Client.register(
                number,
                code=ask,
                server=device.server,
                profile=device.profile,
                home=device.home,
                passphrase=secret,
            )

    _run(go())
    store = DeviceStore.read_only(directory, secret)
    own = store.own()
    store.close()
    if as_json:
        _print_json(
            {
                "number": str(own.number),
                "account": account_text(own.account),
                "device": own.device,
                "incarnation": own.incarnation,
                "profile": directory.name,
                "directory": str(directory),
            }
        )
        return 0
    print(f"{own.number} is registered. Write with: raychat chat NUMBER")
    if new and secret is None:
        print(
            f"Keys and history are encrypted in {directory}; the key is the file device.key "
            "beside them.\nWhoever can read that directory can read them. To lock them by a "
            "passphrase instead, register with --passphrase."
        )
    return 0


def chat(number: str, *, device: Profile = _DEFAULT) -> int:
    """Chat with someone in the terminal. Ctrl-C leaves.

    Parameters
    ----------
    number
        The phone number (or account) to write to.
    """
    from raychat.client.chat import converse

    peer = recipient(number)

    async def go() -> None:
        async with device.client() as me:
            await converse(me, peer)

    _run(go())
    return 0


def send(
    number: str,
    *text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    wait: Wait = Wait.SENT,
    timeout: float = 30,
    device: Profile = _DEFAULT,
    as_json: AsJson = False,
) -> int:
    """Send one message.

    Parameters
    ----------
    number
        The phone number (or account) to write to.
    text
        The words of the message; a single - reads it from stdin.
    wait
        Return when it is sent (kept by the server), delivered or read.
    timeout
        Seconds to wait for that.
    as_json
        Print the message as one JSON object.
    """
    words = " ".join(text)
    if words in ("", "-"):
        words = sys.stdin.read().rstrip("\n")
    wanted = State[wait.name]

    async def go() -> Message:
        async with device.client() as me:
            message = await me.send(recipient(number), words)
            try:
                return await me.wait(message, wanted, timeout)
            except Timeout:
                now = me.message(message.key)
                if now is not None and now.state is State.QUEUED:
                    raise Timeout(
                        "The server could not be reached in time; the message is kept, and sent "
                        "when raychat runs the next time."
                    ) from None
                raise

    message = _run(go())
    if as_json:
        _print_json(to_json(message))
    else:
        print(message.state.name.lower())
    return 0


def history(
    number: str | None = None,
    *,
    limit: Annotated[int, Parameter(validator=cyclopts.validators.Number(gte=1))] = 50,
    device: Profile = _DEFAULT,
    as_json: AsJson = False,
) -> int:
    """Show the latest messages, also while a chat is open in another terminal.

    Parameters
    ----------
    number
        The phone number (or account) of a conversation; all of them without it.
    limit
        How many messages.
    as_json
        Print one JSON object for each message.
    """
    store = DeviceStore.read_only(device.directory, device.secret())
    try:
        store.own()
        messages: list[Message] = []
        if number is None:
            messages = store.history.history(limit=limit)
        elif (conversation := store.history.conversation_with(recipient(number))) is not None:
            messages = store.history.history(conversation.id, limit=limit)
    finally:
        store.close()
    try:
        if as_json:
            for message in messages:
                _print_json(to_json(message))
        else:
            _show(messages, number is None)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _show(messages: list[Message], everyone: bool) -> None:
    now = wall_ms()
    if not sys.stdout.isatty():
        for message in messages:
            prefix = f"[{message.conversation.title}] " if everyone and message.outgoing else ""
            print(prefix + lines([message], now), end="")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for message in messages:
        shown = Text()
        if everyone and message.outgoing:
            shown.append(f"[{message.conversation.title}] ", style="bright_black")
        for style, piece in fragments(message, now):
            shown.append(piece, style=_STYLES.get(style, ""))
        console.print(shown, end="")


_STYLES = {
    "class:time": "bright_black",
    "class:mine": "green",
    "class:theirs": "bold cyan",
    "class:queued": "bright_black",
    "class:sent": "bright_black",
    "class:delivered": "bright_black",
    "class:read": "bold blue",
    "class:failed": "red",
    "class:expired": "red",
}


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value))


def _run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)
