"""Proving that a number is one's own, and giving the PIN that locks an account.

Both ask the person: through functions, so that an app, a terminal and a test each ask in their
own way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from raychat import limits
from raychat.client.http import HttpApi, Registration
from raychat.errors import BadCode, BadPin, ChallengeRequired, Locked
from raychat.ids import PhoneNumber

T = TypeVar("T")

AskCode = Callable[[Registration, BadCode | None], Awaitable[str]]
"""Gives the code that came to the number; called again with the error after a wrong one."""

AskChallenge = Callable[[ChallengeRequired], Awaitable[str | None]]
"""Has the person solve the challenge in the error's data; gives its answer, None to give up."""

AskPin = Callable[[Locked | BadPin], Awaitable[str | None]]
"""Gives the PIN of the lock; called again with the error after a wrong one. None gives up."""


async def prove(
    api: HttpApi,
    number: PhoneNumber,
    code: AskCode,
    *,
    challenge: AskChallenge | None = None,
    voice: bool = False,
) -> Registration:
    """Have a code sent to the number, and give it back: a registration that may be used.

    Raises ChallengeRequired if it is not answered, BadCode after the last try, CodeExpired,
    RateLimited, BadNumber, Unavailable.
    """
    registration = await _start(api, number, challenge, voice)
    wrong: BadCode | None = None
    for _ in range(limits.CODE_TRIES):
        try:
            await api.confirm(registration, await code(registration, wrong))
        except BadCode as error:
            wrong = error
        else:
            return registration
    assert wrong is not None
    raise wrong


async def _start(
    api: HttpApi, number: PhoneNumber, challenge: AskChallenge | None, voice: bool
) -> Registration:
    answer: str | None = None
    for _ in range(limits.CODE_TRIES):
        try:
            return await api.begin(number, voice=voice, challenge=answer)
        except ChallengeRequired as error:
            required = error
            answer = await challenge(error) if challenge is not None else None
            if answer is None:
                raise
    raise required


async def with_pin(
    call: Callable[[str | None], Awaitable[T]], pin: str | AskPin | None = None
) -> T:
    """Make a call that takes the PIN if the account is locked.

    A PIN that is asked for is asked for again after a wrong one, as long as there are tries.
    Raises Locked, BadPin.
    """
    given = pin if isinstance(pin, str) else None
    while True:
        try:
            return await call(given)
        except (Locked, BadPin) as error:
            # Locked although a PIN was given: none will help for now.
            hopeless = isinstance(error, Locked) and given is not None
            if hopeless or not callable(pin) or error.data.get("tries", 0) == 0:
                raise
            given = await pin(error)
            if given is None:
                raise


__all__ = ["AskChallenge", "AskCode", "AskPin", "prove", "with_pin"]
