"""What must be shown before a code is sent: that a person, or a real device, asks for it.

A server without a challenge pays for every code a machine asks for, up to its budgets. With one,
`POST /v1/registrations` answers 428 and says which challenge there is; the client solves it and
asks again with the answer.

`CaptchaChallenge` speaks the `siteverify` call that hCaptcha and Turnstile document. A challenge
by push notification has the same protocol: `check` without an answer sends a token through the
push service of the platform, and with one compares it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import structlog
from pydantic import SecretStr

from raychat import limits
from raychat.accounts.web import Web
from raychat.errors import ChallengeRequired, Unavailable
from raychat.ids import PhoneNumber

log = structlog.get_logger("raychat.accounts.challenge")

REFUSAL: Final = "The challenge cannot be checked now; try again in a moment."

VERIFY: Final = {
    "hcaptcha": "https://api.hcaptcha.com/siteverify",
    "turnstile": "https://challenges.cloudflare.com/turnstile/v0/siteverify",
}

OURS: Final = frozenset(
    {
        "missing-input-secret",
        "invalid-input-secret",
        "sitekey-secret-mismatch",
        "bad-request",
        "internal-error",
    }
)
"""Error codes of `siteverify` that no answer of a person causes."""


class Asking(NamedTuple):
    """Who asks for a code. Shows nothing of it."""

    number: PhoneNumber
    address: str
    answer: str | None

    def __repr__(self) -> str:
        return "Asking(…)"


class Challenge(Protocol):
    """Decides whether a code may be sent."""

    async def check(self, asking: Asking) -> None:
        """Return if it may be. Raises ChallengeRequired, with what is to be done, for no answer
        or a wrong one; Unavailable if that cannot be told, and then no code is sent."""

    async def close(self) -> None: ...


class NoChallenge:
    """Lets everybody through to the budgets."""

    async def check(self, asking: Asking) -> None:
        return None

    async def close(self) -> None:
        return None


class CaptchaChallenge:
    """A captcha whose answers a web service verifies. An answer is good once: the service says."""

    def __init__(self, provider: str, site_key: str, secret: SecretStr, url: str = "") -> None:
        """`provider` is `hcaptcha` or `turnstile`; clients show its widget for `site_key`."""
        self._url = url or VERIFY[provider]
        self._secret = secret
        self._site_key = site_key
        self._demand = {"kind": "captcha", "provider": provider, "site_key": site_key}
        self._sends_key = provider == "hcaptcha"
        self._web = Web(REFUSAL)

    async def check(self, asking: Asking) -> None:
        if asking.answer is None:
            raise self._required()
        if not 0 < len(asking.answer) <= limits.CHALLENGE_CHARS:
            raise self._required("The answer to the challenge is not one; solve it anew.")
        form = {"secret": self._secret.get_secret_value(), "response": asking.answer}
        if self._sends_key:
            form["sitekey"] = self._site_key
        answer = await self._web.post(self._url, form)
        fields: dict[str, Any] = answer.fields()
        if answer.status == 200 and fields.get("success") is True:
            return
        codes = fields.get("error-codes")
        codes = [code for code in codes if isinstance(code, str)] if isinstance(codes, list) else []
        if "success" not in fields or OURS.intersection(codes):
            log.error("challenge cannot be checked", status=answer.status, codes=codes)
            raise Unavailable(REFUSAL)
        raise self._required("The challenge was not solved, or too long ago; solve it anew.")

    async def close(self) -> None:
        await self._web.close()

    def _required(self, detail: str | None = None) -> ChallengeRequired:
        return ChallengeRequired(detail, {"challenge": self._demand})
