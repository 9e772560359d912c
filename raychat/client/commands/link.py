"""`link`: another device for the account, from the side of either."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

from cyclopts import Parameter, validators
from rich.console import Console

from raychat import limits
from raychat.client.client import Client
from raychat.client.commands.profile import (
    PLAIN_OR_COLORED,
    THIS_DEVICE,
    AsJson,
    Flag,
    Look,
    Profile,
    key_notice,
    own_json,
    print_json,
    run,
    say,
)
from raychat.client.commands.terminal import agree, countdown, qr
from raychat.client.display import moment
from raychat.client.events import Event, Feed, HistoryMoved, Stopped
from raychat.clock import wall_ms
from raychat.crypto.linking import LinkCode, LinkRequest
from raychat.errors import (
    Denied,
    LinkExpired,
    NotRegistered,
)
from raychat.ids import PRIMARY, DeviceId

CODES_SHOWN: Final = 5
"""A code that nobody reads in time makes way for another one, so many times."""

LOOK_SECONDS: Final = 0.5
FLUSH_SECONDS: Final = 5

CAN_DO: Final = """\
It will be able to read what is written to you and to write in your name, until you revoke it."""
GETS_HISTORY: Final = "It will get all the messages that are on this device."
GETS_NO_HISTORY: Final = "It will get your contacts and settings, and no older messages."
WARNING: Final = """\
Go on only if you see the code on a device of your own, in front of you. Nobody else ever needs
to link a device to your account: not a friend, not a shop, not support."""


def link(
    code: str | None = None,
    *,
    name: str | None = None,
    system: Annotated[str | None, Parameter(name="--platform")] = None,
    history: bool = True,
    delay: Annotated[float, Parameter(validator=validators.Number(gte=0))] = (
        limits.TRANSFER_DELAY_SECONDS
    ),
    wait: bool = True,
    yes: Flag = False,
    device: Profile = THIS_DEVICE,
    look: Look = PLAIN_OR_COLORED,
    as_json: AsJson = False,
) -> int:
    """Link another device to the account.

    On the new device, run this without a code: it shows one, which is good for a minute. On the
    primary device, run it with that code. What is going to be linked is shown there first.

    Parameters
    ----------
    code
        On the primary: the code that the new device shows.
    name
        On the new device: what the primary is to call it (default: the name of this machine).
    system
        On the new device: what kind of device it is (default: the name of the system).
    history
        On the primary: send the messages that are here, from a minute later on.
    delay
        On the primary: seconds until then, in which the new device can still be revoked.
    wait
        Stay until the history has moved. Without, it moves while raychat runs on both.
    yes
        On the primary: do not ask.
    as_json
        Print one JSON object for each thing that happens.
    """
    if code is None:
        _link_this(device, name or machine(), system or platform_name(), wait, look, as_json)
        return 0
    report = _Report(as_json)

    async def confirm(request: LinkRequest) -> bool:
        if as_json:
            print_json(
                {
                    "event": "request",
                    "name": request.name,
                    "platform": request.platform,
                    "at": request.at,
                }
            )
        say(about(request, history=history, now=wall_ms()))
        return yes or await agree("Link it?")

    async def go() -> None:
        async with device.client() as me:
            added = await me.link(code, confirm, history=history, delay=delay)
            if added is None:
                raise Denied("Nothing was linked.")
            report.tell({"event": "linked", "device": added}, f"Device {added} is let in.")
            if wait:
                feed = me.events()
                await _registered(me, added, feed)
                await _history(me, added, feed, report)

    run(go())
    return 0


def about(request: LinkRequest, *, history: bool, now: int) -> str:
    """What the person decides by: what would be linked, and what it could do."""
    made = moment(request.at, now)
    return "\n".join(
        (
            f"A device wants to be linked: {request.name} ({request.platform}), asked at {made}.",
            CAN_DO,
            GETS_HISTORY if history else GETS_NO_HISTORY,
            WARNING,
        )
    )


def machine() -> str:
    """A name for this device that may be shown."""
    return _printable_name(platform.node()) or "a computer"


def platform_name() -> str:
    """What kind of machine this is."""
    return _printable_name(f"{platform.system()} {platform.machine()}") or "unknown"


def _printable_name(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:64]


class _Report:
    """What happens, for people or as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def tell(self, event: dict[str, Any], sentence: str) -> None:
        if self.as_json:
            print_json(event)
        else:
            print(sentence, flush=True)


def _link_this(
    device: Profile, name: str, system: str, wait: bool, look: Look, as_json: bool
) -> None:
    """The new device."""
    new, secret, report = device.is_new, device.secret(), _Report(as_json)
    if not new:
        _refuse_primary(device)

    async def once() -> Client:
        async with AsyncExitStack() as counting:

            async def show(code: LinkCode, seconds: int) -> None:
                _show_code(code, seconds, look, as_json)
                text = "the code is good for {0} s more"
                await counting.enter_async_context(countdown(text, seconds))

            return await Client.link_this(
                show=show,
                name=name,
                platform=system,
                server=device.server,
                profile=device.profile,
                home=device.home,
                passphrase=secret,
            )

    async def go() -> None:
        me = await _again(once)
        own = device.own()
        report.tell(
            {"event": "linked", **own_json(own, device.directory)},
            f"This is device {own.device} of {own.number} now.",
        )
        if new and secret is None and not as_json:
            print(key_notice(device.directory))
        if wait:
            async with me:
                await _history(me, PRIMARY, me.events(), report)

    run(go())


def _refuse_primary(device: Profile) -> None:
    """Who forgets the code on the primary is told so, before the profile is touched."""
    try:
        is_primary = device.own().device == PRIMARY
    except NotRegistered:
        return
    if is_primary:
        raise Denied(
            "This profile is a primary device. To link another one give the code it shows: "
            "raychat link CODE. To make a linked device here, use another --profile."
        )


async def _again(once: Callable[[], Any]) -> Client:
    """Show another code when one has run out."""
    for place in range(CODES_SHOWN):
        try:
            client: Client = await once()
        except LinkExpired:
            if place == CODES_SHOWN - 1:
                raise
            say("raychat: nobody has read the code in time; here is another one.")
        else:
            return client
    raise LinkExpired


def _show_code(code: LinkCode, seconds: int, look: Look, as_json: bool) -> None:
    if as_json:
        print_json({"event": "code", "code": code.text, "seconds": seconds})
        return
    print(qr(code.text, look.is_colored()), end="")
    print("On the primary device, scan this code or run:")
    print(f"  raychat link {code.text}", flush=True)


async def _registered(me: Client, device: DeviceId, feed: Feed) -> None:
    """Until a device that was let in is there. Raises LinkExpired."""
    try:
        async with asyncio.timeout(limits.LINK_FINISH_SECONDS):
            while not any(each.device == device for each in me.listed_devices()):
                await _next(feed)
    except TimeoutError:
        raise LinkExpired("The new device has not registered in time; begin anew.") from None


async def _history(me: Client, device: int, feed: Feed, report: _Report) -> None:
    """Show the history's way, until it has come. Raises why the client has stopped, if it has."""
    if not me.is_history_moving(device):
        return
    if not report.as_json:
        say("The history follows. (Ctrl-C does no harm: it goes on when raychat runs again.)")
    console = Console(stderr=True, quiet=report.as_json)
    done, parts = 0, 1
    with console.status("waiting for the history") as status:
        while True:
            event = await _next(feed)
            if isinstance(event, HistoryMoved) and event.device == device:
                done, parts = event.done, event.parts
                status.update(f"history: {done} of {parts} parts")
                if report.as_json:
                    print_json({"event": "history", "done": done, "parts": parts})
            # What was told with the last part is heard first.
            if not me.is_history_moving(device) and (done >= parts or event is None):
                break
    await me.flush(FLUSH_SECONDS)
    report.tell({"event": "done"}, "The history is there.")


async def _next(feed: Feed) -> Event | None:
    """The next event, None if there is none for a moment. Raises why the client has stopped."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            event = await anext(feed)
    except TimeoutError:
        return None
    if isinstance(event, Stopped):
        raise event.error
    return event


__all__ = ["link"]
