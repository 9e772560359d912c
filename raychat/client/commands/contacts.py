"""`contacts`: whom this person knows, who wants to be known, and what is settled about each."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cyclopts import App, Parameter, validators

from raychat.client.client import Client
from raychat.client.commands.profile import (
    PLAIN_OR_COLORED,
    THIS_DEVICE,
    AsJson,
    Flag,
    Look,
    Profile,
    print_json,
    run,
)
from raychat.client.commands.terminal import table
from raychat.client.display import moment, printable
from raychat.client.model import Conversation
from raychat.client.numbers import recipient
from raychat.client.store import DeviceStore
from raychat.client.verifying import is_verified
from raychat.clock import wall_ms
from raychat.ids import account_text
from raychat.wire.content import Value

_HOUR_MS: Final = 3_600_000
_FOR_EVER: Final = 2**52
"""A time (ms) nobody sees."""

app = App(
    name="contacts",
    help="List contacts, and settle something about one: accept, block, name, mute and others.",
)


@app.default
def contacts(
    *,
    requests: Flag = False,
    blocked: Flag = False,
    device: Profile = THIS_DEVICE,
    look: Look = PLAIN_OR_COLORED,
    as_json: AsJson = False,
) -> int:
    """List contacts, also while a chat is open in another terminal.

    Parameters
    ----------
    requests
        Those who have written and are neither accepted nor blocked.
    blocked
        Those who are blocked.
    as_json
        Print one JSON object for each.
    """
    with device.reader() as store:
        own = store.own().account
        if requests:
            found = store.history.requests()
        elif blocked:
            found = [each for each in store.history.conversations() if each.blocked]
        else:
            found = [each for each in store.history.contacts() if not each.blocked]
        shown = [as_object(each, store) for each in found if each.account != own]
    if as_json:
        for each in shown:
            print_json(each)
        return 0
    now = wall_ms()
    rows = [
        (_title(each), each["number"] or each["account"] or "", _notes(each, now)) for each in shown
    ]
    table(("name", "number", ""), rows, look)
    return 0


def as_object(contact: Conversation, store: DeviceStore) -> dict[str, Any]:
    """A contact as --json prints it. Times in ms since 1970."""
    return {
        "account": account_text(contact.account) if contact.account else None,
        "number": str(contact.number) if contact.number else None,
        "name": contact.name,
        "profile": contact.profile,
        "accepted": contact.accepted,
        "blocked": contact.blocked,
        "request": contact.is_request,
        "muted": contact.muted,
        "archived": contact.archived,
        "pinned": contact.pinned,
        "timer": contact.timer,
        "verified": is_verified(contact, store),
        "unread": store.history.unread(contact.id),
    }


def _title(each: dict[str, Any]) -> str:
    called = each["name"] or (f"~{each['profile']}" if each["profile"] else "-")
    return printable(called)


def _notes(each: dict[str, Any], now: int) -> str:
    notes = [word for word in ("blocked", "request", "archived", "verified") if each[word]]
    if each["muted"] > now:
        is_long = each["muted"] >= _FOR_EVER
        notes.append("muted" if is_long else f"muted until {moment(each['muted'], now)}")
    if each["pinned"]:
        notes.append("pinned")
    if each["unread"]:
        notes.append(f"{each['unread']} unread")
    return ", ".join(notes)


def _settle(device: Profile, number: str, as_json: bool, **settings: Value) -> int:
    """Make settings of a conversation, and print the contact as it is then."""

    async def go(me: Client) -> None:
        async with me:
            for name, value in settings.items():
                await me.choose(number, name, value)

    run(go(device.client()))
    with device.reader() as store:
        contact = store.history.conversation_with(recipient(number))
        assert contact is not None  # a setting of it was made
        shown = as_object(contact, store)
    if as_json:
        print_json(shown)
    else:
        notes = _notes(shown, wall_ms())
        print(printable(contact.title) + (f": {notes}" if notes else ""))
    return 0


@app.command
def accept(number: str, *, device: Profile = THIS_DEVICE, as_json: AsJson = False) -> int:
    """Accept a message request: from now on they see ✓✓ and what was read.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    as_json
        Print the contact as one JSON object.
    """
    return _settle(device, number, as_json, accepted=True)


@app.command
def block(number: str, *, device: Profile = THIS_DEVICE, as_json: AsJson = False) -> int:
    """Hear nothing more of somebody. They are not told.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    as_json
        Print the contact as one JSON object.
    """
    return _settle(device, number, as_json, blocked=True)


@app.command
def unblock(number: str, *, device: Profile = THIS_DEVICE, as_json: AsJson = False) -> int:
    """Hear of somebody again. What they wrote meanwhile is gone.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    as_json
        Print the contact as one JSON object.
    """
    return _settle(device, number, as_json, blocked=False)


@app.command
def name(number: str, *words: str, device: Profile = THIS_DEVICE, as_json: AsJson = False) -> int:
    """Give a contact a name; without one the name is taken away. Only one's own devices see it.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    words
        The name.
    as_json
        Print the contact as one JSON object.
    """
    return _settle(device, number, as_json, name=" ".join(words))


@app.command
def mute(
    number: str,
    *,
    hours: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lte=87_600))] = None,
    off: Flag = False,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Let a contact's messages come without notice.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    hours
        For so long (default: for good).
    off
        Give notice again.
    as_json
        Print the contact as one JSON object.
    """
    until = _FOR_EVER if hours is None else wall_ms() + int(hours * _HOUR_MS)
    return _settle(device, number, as_json, muted=0 if off else until)


@app.command
def archive(
    number: str, *, off: Flag = False, device: Profile = THIS_DEVICE, as_json: AsJson = False
) -> int:
    """Put a conversation away.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    off
        Take it back.
    as_json
        Print the contact as one JSON object.
    """
    return _settle(device, number, as_json, archived=not off)


@app.command
def pin(
    number: str,
    place: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1_000))] = 1,
    *,
    off: Flag = False,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Keep a conversation above the others.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    place
        Its place among the pinned ones.
    off
        Let it go.
    as_json
        Print the contact as one JSON object.
    """
    return _settle(device, number, as_json, pinned=0 if off else place)


__all__ = ["app"]
