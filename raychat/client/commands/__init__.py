"""The person's commands, a module for each noun.

Each raises RaychatErrors, which the one command says on stderr; exit codes are 0 done, 1 an
error, 2 usage, 130 Ctrl-C. With --json each line of stdout is one JSON object, whose fields keep
their names and meanings; what is for people only goes to stderr then.
"""

from __future__ import annotations

import cyclopts

from raychat.client.commands import account, contacts, devices, messages, verify


def add_to(app: cyclopts.App) -> None:
    """Put the person's commands into the one command."""
    for command in (account.register, account.number, account.lock, account.delete_account):
        app.command(command)
    for command in (devices.link, devices.devices, devices.revoke, devices.logout):
        app.command(command)
    app.command(contacts.app)
    for command in (messages.chat, messages.send, messages.history, messages.search):
        app.command(command)
    app.command(messages.export)
    app.command(verify.verify)


__all__ = ["add_to"]
