"""`register`, `number`, `lock`, `delete-account`: the account and its phone number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from raychat.client.client import Client
from raychat.client.commands.asking import Asking, new_pin
from raychat.client.commands.profile import (
    THIS_DEVICE,
    AsJson,
    Flag,
    Profile,
    key_notice,
    own_json,
    print_json,
    run,
)
from raychat.client.commands.terminal import agree, countdown
from raychat.client.numbers import phone_number
from raychat.errors import BadRequest, Denied, RateLimited

T = TypeVar("T")

PATIENCE: Final = 90
"""A wait (seconds) for another code that is sat out; a longer one is told."""


def register(
    number: str,
    *,
    code: str | None = None,
    voice: Flag = False,
    challenge: str | None = None,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Make this profile the primary device of a phone number.

    The server sends a code to the number. Other devices of the account are removed. If the number
    is locked, its PIN is asked for ($RAYCHAT_PIN is used without asking).

    Parameters
    ----------
    number
        The phone number with its country, like +15550001111.
    code
        The code, for use without asking.
    voice
        Have the code told by a call instead of a message.
    challenge
        The answer to a challenge the server has set, such as a captcha.
    as_json
        Print the outcome as one JSON object.
    """
    new, secret = device.is_new, device.secret()
    asking = Asking(str(phone_number(number)), code=code, challenge=challenge)

    async def once() -> Client:
        return await Client.register(
            number,
            code=asking.code,
            server=device.server,
            profile=device.profile,
            home=device.home,
            passphrase=secret,
            pin=asking.pin,
            challenge=asking.challenge,
            voice=voice,
        )

    run(_patiently(once))
    own = device.own()
    if as_json:
        print_json(own_json(own, device.directory))
        return 0
    print(f"{own.number} is registered. Write with: raychat chat NUMBER")
    if new and secret is None:
        print(key_notice(device.directory))
    return 0


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that has a code sent; if one was sent a moment ago, once more after a while."""
    try:
        return await call()
    except RateLimited as error:
        seconds = error.data.get("seconds")
        if not isinstance(seconds, int) or not 0 < seconds <= PATIENCE:
            raise
    async with countdown("another code may be asked for in {0} s", seconds):
        await asyncio.sleep(seconds)
    return await call()


def number(
    new: str,
    *,
    code: str | None = None,
    voice: Flag = False,
    challenge: str | None = None,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Move the account to another phone number. Its devices, chats and lock stay.

    The server sends a code to the new number. An account that has had that number is deleted.

    Parameters
    ----------
    new
        The new phone number with its country.
    code
        The code, for use without asking.
    voice
        Have the code told by a call instead of a message.
    challenge
        The answer to a challenge the server has set, such as a captcha.
    as_json
        Print the outcome as one JSON object.
    """
    asking = Asking(str(phone_number(new)), code=code, challenge=challenge)

    async def go() -> str:
        async with device.client() as me:
            changed = await _patiently(
                lambda: me.change_number(
                    new, code=asking.code, pin=asking.pin, challenge=asking.challenge, voice=voice
                )
            )
            return str(changed)

    changed = run(go())
    if as_json:
        print_json({"number": changed})
    else:
        print(f"The number of this account is {changed} now.")
    return 0


def lock(
    *,
    remove: Flag = False,
    status: Flag = False,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Lock the number with a PIN: who gets hold of its codes cannot register it without.

    The PIN is asked for ($RAYCHAT_PIN is used without asking). The lock ends when no device of the
    account has connected for 7 days.

    Parameters
    ----------
    remove
        Take the lock away.
    status
        Only say whether there is one.
    as_json
        Print the outcome as one JSON object.
    """
    if remove and status:
        raise BadRequest("--remove and --status do not go together.")

    async def go() -> bool:
        pin = None if remove or status else await new_pin()
        async with device.client() as me:
            if pin is not None:
                await me.lock(pin)
            elif remove:
                await me.unlock()
            return await me.is_locked()

    locked = run(go())
    if as_json:
        print_json({"locked": locked})
    else:
        print("The number is locked." if locked else "The number is not locked.")
    return 0


def delete_account(
    *,
    yes: Flag = False,
    erase: Flag = False,
    device: Profile = THIS_DEVICE,
    as_json: AsJson = False,
) -> int:
    """Delete the account: all its devices, keys and waiting messages at the server. For good.

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
            asking = Asking(str(me.number), code=None, challenge=None)
            question = f"The account of {me.number} will be deleted for good."
            if not yes and not await agree(question):
                raise Denied("Nothing was deleted.")
            await me.delete_account(asking.pin)

    run(go())
    if erase:
        device.erase()
    if as_json:
        print_json({"deleted": True, "erased": erase})
    else:
        print("The account is deleted." + ("" if erase else " The history of this device stays."))
    return 0


__all__ = ["delete_account", "lock", "number", "register"]
