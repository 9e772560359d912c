"""What the commands have in common: which device, how the output looks, running and printing."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import sys
from collections.abc import Coroutine
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, TypeVar

from cyclopts import Parameter

from raychat.client import keyfile
from raychat.client.client import Client
from raychat.client.store import DeviceStore, Own
from raychat.database import FileLock
from raychat.errors import BadRequest, NotRegistered
from raychat.ids import account_text

T = TypeVar("T")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]


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

    passphrase: Flag = False
    "Ask for the passphrase that locks this device ($RAYCHAT_PASSPHRASE is used without asking)."

    @property
    def directory(self) -> Path:
        return keyfile.directory(self.profile, self.home)

    @property
    def is_new(self) -> bool:
        """Whether there is no such profile yet."""
        return not (self.directory / "device.key").exists()

    def secret(self) -> str | None:
        """The passphrase, if there is to be one. Raises BadRequest."""
        return _secret(self)

    def client(self) -> Client:
        """Raises NotRegistered if the profile has no device."""
        if not (self.directory / "device.db").exists():
            raise NotRegistered
        server = self.server or os.environ.get("RAYCHAT_SERVER")
        return Client(self.profile, home=self.home, server=server, passphrase=self.secret())

    def reader(self) -> closing[DeviceStore]:
        """The file to read from, also while another process has it open. Raises NotRegistered."""
        store = DeviceStore.read_only(self.directory, self.secret())
        try:
            store.own()
        except BaseException:
            store.close()
            raise
        return closing(store)

    def own(self) -> Own:
        """Who the device is. Raises NotRegistered, StoreLocked."""
        with self.reader() as store:
            return store.own()

    def erase(self) -> None:
        """Delete the profile with its keys and history. Raises StoreInUse."""
        lock = FileLock(self.directory / "device.lock")
        try:
            shutil.rmtree(self.directory)
        finally:
            lock.release()


THIS_DEVICE: Final = Profile()


@cache  # a command may open the file more than once, and asks once
def _secret(device: Profile) -> str | None:
    given = os.environ.get("RAYCHAT_PASSPHRASE")
    if given or not device.passphrase:
        return given or None
    asked = getpass.getpass("Passphrase: ")
    if device.is_new and getpass.getpass("Once more: ") != asked:
        raise BadRequest("The two passphrases differ.")
    return asked or None


@Parameter(name="*")
@dataclass(frozen=True)
class Look:
    """How the output looks."""

    color: bool | None = None
    "Use colours (default: on a terminal, unless $NO_COLOR is set)."

    def is_colored(self, stream: TextIO | None = None) -> bool:
        """Whether what goes to a stream (default stdout) has colours."""
        if self.color is not None:
            return self.color
        if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
            return False
        return (stream or sys.stdout).isatty()


PLAIN_OR_COLORED: Final = Look()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end."""
    return asyncio.run(main)


def print_json(value: dict[str, Any]) -> None:
    """One line of --json."""
    print(json.dumps(value), flush=True)


def say(text: str, end: str = "\n") -> None:
    """Tell the person something that is no result."""
    print(text, end=end, file=sys.stderr, flush=True)


def own_json(own: Own, directory: Path) -> dict[str, Any]:
    """A device as `register` and `link` print it."""
    return {
        "number": str(own.number),
        "account": account_text(own.account),
        "device": own.device,
        "incarnation": own.incarnation,
        "profile": directory.name,
        "directory": str(directory),
    }


def key_notice(directory: Path) -> str:
    """Where the key of a new device lies, said plainly."""
    return (
        f"Keys and history are encrypted in {directory}; the key is the file device.key "
        "beside them.\nWhoever can read that directory can read them. To lock them by a "
        "passphrase instead, begin with --passphrase."
    )
