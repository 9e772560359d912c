"""The person's commands, a module for each noun.

Each raises RaychatErrors, which the one command says on stderr; exit codes are 0 done, 1 an
error, 2 usage, 130 Ctrl-C. With --json each line of stdout is one JSON object, whose fields keep
their names and meanings; what is for people only goes to stderr then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cyclopts

from raychat.client.commands import account, contacts, devices, link, messages, verify

_COMMANDS: Final[tuple[Callable[..., int], ...]] = (
    account.register,
    link.link,
    devices.devices,
    devices.revoke,
    devices.logout,
    account.number,
    account.lock,
    account.delete_account,
    messages.chat,
    messages.send,
    messages.history,
    messages.search,
    messages.export,
    verify.verify,
)


def add_to(app: cyclopts.App) -> None:
    """Put the person's commands into the one command."""
    for command in _COMMANDS:
        app.command(command)
    app.command(contacts.app)


__all__ = ["add_to"]
