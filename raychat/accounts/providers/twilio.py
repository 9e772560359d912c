"""Twilio's REST API, version 2010-04-01: Messages for texts, Calls with TwiML for voice.

Both are a form that is posted with basic authentication: the account's SID and auth token, or an
API key's SID and secret. A text comes `From` a number (or name) of the account, or from one that
a messaging service chooses; a call always comes from a number.
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

import aiohttp
import structlog
from pydantic import SecretStr

from raychat.accounts.sender import Channel, CodeMessage
from raychat.accounts.web import Answer, Web
from raychat.errors import BadNumber, Unavailable

log = structlog.get_logger("raychat.accounts.twilio")

REFUSAL: Final = "The code could not be sent; try again later."

UNREACHABLE: Final = frozenset(
    {
        21211,  # not a valid number
        21214,  # cannot be called
        21217,  # does not look like a number
        21408,  # texts to that country are not switched on
        21610,  # has asked for no more texts
        21612,  # no way from the sender's number
        21614,  # not a mobile number
        13224,  # cannot be called, or is not valid
        21215,  # calls to that country are not switched on
    }
)
"""Twilio's error codes that are about the number, whatever else is right."""


class TwilioSender:
    """Implements `Sender`."""

    def __init__(
        self,
        account: str,
        token: SecretStr,
        *,
        user: str = "",
        sender: str = "",
        service: str = "",
        url: str = "https://api.twilio.com",
    ) -> None:
        """`account` and `user` are SIDs; `token` is the secret of `user`, which is the account
        itself unless it is an API key. `sender` is a number, `service` a messaging service."""
        self._base = f"{url.rstrip('/')}/2010-04-01/Accounts/{account}"
        self._user = user or account
        self._token = token
        self._sender = sender
        self._service = service
        self._web = Web(REFUSAL)

    async def send(self, message: CodeMessage) -> None:
        if message.channel is Channel.VOICE:
            await self._call(message)
        else:
            await self._text(message)

    async def _text(self, message: CodeMessage) -> None:
        form = {
            "To": str(message.number),
            "Body": message.text,
            "ValidityPeriod": str(message.seconds),
        }
        if self._service:
            form["MessagingServiceSid"] = self._service
        else:
            form["From"] = self._sender
        await self._post("Messages.json", form)

    async def _call(self, message: CodeMessage) -> None:
        if not self._sender:
            raise Unavailable("This server makes no calls; ask for a text message.")
        said = '<Pause length="1"/>'.join(f"<Say>{escape(text)}</Say>" for text in message.speech)
        form = {
            "To": str(message.number),
            "From": self._sender,
            "Twiml": f"<Response>{said}</Response>",
        }
        await self._post("Calls.json", form)

    async def _post(self, resource: str, form: dict[str, str]) -> None:
        authorization = aiohttp.encode_basic_auth(self._user, self._token.get_secret_value())
        headers = {"Authorization": authorization}
        answer = await self._web.post(f"{self._base}/{resource}", form, headers=headers)
        if answer.status not in (200, 201):
            raise _failure(answer)

    async def close(self) -> None:
        await self._web.close()


def _failure(answer: Answer) -> BadNumber | Unavailable:
    code = answer.fields().get("code")
    code = code if isinstance(code, int) else None
    if code in UNREACHABLE:
        return BadNumber("That number cannot be reached so; check it, or ask for a call instead.")
    # The message beside the code names the number, so it is not logged.
    log.warning("Twilio refused", status=answer.status, code=code)
    return Unavailable(REFUSAL)
