"""`devices`, `revoke`, `logout`: the devices of the account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter, validators

from raychat.client.commands.profile import (
    PLAIN_OR_COLORED,
    THIS_DEVICE,
    AsJson,
    Flag,
    Look,
    Profile,
    print_json,
    run,
    say,
)
from raychat.client.commands.terminal import agree, table
from raychat.client.display import moment, printable
from raychat.client.own_devices import OwnDevice
from raychat.clock import wall_ms
from raychat.errors import BadToken, Denied, StoreInUse


def devices(
    *,
    device: Profile = THIS_DEVICE,
    look: Look = PLAIN_OR_COLORED,
    as_json: AsJson = False,
) -> int:
    """List the devices of the account, with the day each was there last.

    While a chat is open in another terminal the list is the one this device knows.

    Parameters
    ----------
    as_json
        Print one JSON object for each device.
    """

    async def go() -> list[OwnDevice]:
        async with device.client() as me:
            return await me.devices()

    try:
        found = run(go())
    except StoreInUse:
        with device.reader() as store:
            found = OwnDevice.known(store)
    now = wall_ms()
    if as_json:
        for each in found:
            print_json(_device_json(each))
        return 0
    rows = [
        (
            str(each.device),
            printable(each.name or ("primary" if each.is_primary else "linked"))
            + (" (this one)" if each.is_this else ""),
            moment(each.linked, now),
            _day(each.seen) or "-",
        )
        for each in found
    ]
    table(("number", "name", "since", "last there"), rows, look)
    return 0


def _device_json(device: OwnDevice) -> dict[str, Any]:
    return {
        "device": int(device.device),
        "name": device.name,
        "primary": device.is_primary,
        "this": device.is_this,
        "linked": device.linked,
        "seen": _day(device.seen),
    }


def _day(days: int | None) -> str | None:
    """A day since 1970 as people write it."""
    if days is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)).strftime("%Y-%m-%d")


def revoke(
    number: Annotated[int, Parameter(validator=validators.Number(gte=1))],
    *,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Take a linked device out of the account. It is cut off at once.

    Parameters
    ----------
    number
        The number of the device, as `raychat devices` shows it.
    as_json
        Print the outcome as one JSON object.
    """

    async def go() -> None:
        async with device.client() as me:
            await me.revoke(number)

    run(go())
    if as_json:
        print_json({"revoked": number})
    else:
        print(f"Device {number} is no device of this account any more.")
    return 0


def logout(
    *,
    yes: Flag = False,
    erase: Flag = False,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Take this linked device out of its account.

    Parameters
    ----------
    yes
        Do not ask.
    erase
        Delete this profile too, with its keys and history.
    as_json
        Print the outcome as one JSON object.
    """

    async def go() -> None:
        async with device.client() as me:
            question = f"This device leaves the account of {me.number}."
            if not yes and not await agree(question):
                raise Denied("Nothing was changed.")
            try:
                await me.leave()
            except BadToken:
                say("raychat: the account does not have this device any more.")

    run(go())
    if erase:
        device.erase()
    if as_json:
        print_json({"left": True, "erased": erase})
    else:
        print("This device has left." + ("" if erase else " Its history stays."))
    return 0


__all__ = ["devices", "logout", "revoke"]
