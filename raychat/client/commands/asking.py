"""What registering and changing the number ask the person: code, challenge, PIN."""

from __future__ import annotations

import os
import sys

from raychat import limits
from raychat.client.commands.profile import say
from raychat.client.commands.terminal import ask
from raychat.client.http import Registration
from raychat.client.stdin import read_hidden
from raychat.errors import (
    BadCode,
    BadPin,
    BadRequest,
    ChallengeRequired,
    Denied,
    Locked,
    RaychatError,
)


class Asking:
    """Asks on the terminal, unless the answer was given beforehand."""

    def __init__(self, number: str, *, code: str | None, challenge: str | None) -> None:
        self._number = number
        self._code = code
        self._challenge = challenge

    async def code(self, registration: Registration, wrong: BadCode | None) -> str:
        """The code that came. Raises Denied, BadCode."""
        if self._code is not None:
            if wrong is not None:
                raise wrong
            return self._code
        if wrong is not None:
            say(f"raychat: {wrong}")
        answer = await ask(f"The {registration.digits}-digit code sent to {self._number}: ")
        if answer is None:
            raise Denied("No code was given; run this again when it has come.")
        return answer

    async def challenge(self, required: ChallengeRequired) -> str | None:
        """The answer to a challenge: the one given, then what is typed."""
        if self._challenge is not None:
            given, self._challenge = self._challenge, None
            return given
        say(f"raychat: {required}")
        say(how_to_solve(required))
        if not sys.stdin.isatty():
            return None
        return await ask("Its answer: ") or None

    async def pin(self, wanted: Locked | BadPin) -> str | None:
        """The PIN: of $RAYCHAT_PIN, else typed without being shown."""
        given = os.environ.get("RAYCHAT_PIN")
        if given:
            if isinstance(wanted, BadPin):
                return None
            return given
        say(f"raychat: {wanted}{_tries_left(wanted)}")
        return await read_hidden("PIN: ") or None


def how_to_solve(required: ChallengeRequired) -> str:
    """What the person can do about a challenge."""
    match required.data.get("challenge"):
        case {"kind": "captcha", "provider": str(provider), "site_key": str(key)}:
            what = f"Solve the {provider} challenge with the site key {key}"
        case _:
            what = "Solve the challenge of the server"
    return f"{what} and give its answer with --challenge ANSWER."


async def new_pin() -> str:
    """A PIN to lock with: of $RAYCHAT_PIN, else typed twice. Raises BadRequest."""
    given = os.environ.get("RAYCHAT_PIN")
    if given:
        return given
    what = f"New PIN ({limits.PIN_CHARS_MIN} to {limits.PIN_CHARS} characters): "
    typed = await read_hidden(what)
    if not typed:
        raise BadRequest("No PIN was given.")
    if await read_hidden("Once more: ") != typed:
        raise BadRequest("The two PINs differ.")
    return typed


def _tries_left(error: RaychatError) -> str:
    tries = error.data.get("tries")
    if not isinstance(error, BadPin) or not isinstance(tries, int):
        return ""
    return f" {tries} more {'try' if tries == 1 else 'tries'}."
