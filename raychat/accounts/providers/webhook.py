"""A provider of one's own: each code is posted to a URL.

    POST URL
    Content-Type: application/json
    X-Raychat-Signature: t=1700000000,v1=HEX

    {"id": "…", "number": "+15550001111", "channel": "sms", "code": "123456",
     "text": "your raychat code is 123456", "seconds": 600}

`channel` is `sms` or `voice`; `text` is what a text message says. `id` is another one for each
code: who gets it twice sends once. HEX is HMAC-SHA256 under the shared secret over the time `t`
(seconds since 1970), a dot, and the body as it came; who receives it compares in constant time
and refuses a `t` that is more than some minutes old.

Answers: 2xx means taken, 422 that the number cannot be reached, all else to try again later.
"""

from __future__ import annotations

import hmac
import json
import uuid
from typing import Final

import structlog
from pydantic import SecretStr

from raychat.accounts.sender import CodeMessage
from raychat.accounts.web import Web
from raychat.clock import Clock, wall_ms
from raychat.errors import BadNumber, Unavailable

log = structlog.get_logger("raychat.accounts.webhook")

SIGNATURE: Final = "X-Raychat-Signature"
REFUSAL: Final = "The code could not be sent; try again later."
UNREACHABLE: Final = 422


class WebhookSender:
    """Implements `Sender`."""

    def __init__(self, url: str, secret: SecretStr, clock: Clock = wall_ms) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._web = Web(REFUSAL)

    async def send(self, message: CodeMessage) -> None:
        body = json.dumps(
            {
                "id": str(uuid.uuid4()),
                "number": str(message.number),
                "channel": message.channel.value,
                "code": message.code,
                "text": message.text,
                "seconds": message.seconds,
            }
        ).encode()
        headers = {
            "Content-Type": "application/json",
            SIGNATURE: sign(self._secret, self._clock() // 1000, body),
        }
        answer = await self._web.post(self._url, body, headers=headers)
        if answer.status == UNREACHABLE:
            raise BadNumber("That number cannot be reached; check it, or ask for a call.")
        if not 200 <= answer.status < 300:
            log.warning("webhook refused", status=answer.status)
            raise Unavailable(REFUSAL)

    async def close(self) -> None:
        await self._web.close()


def sign(secret: SecretStr, seconds: int, body: bytes) -> str:
    """The value of the signature header."""
    key = secret.get_secret_value().encode()
    return f"t={seconds},v1={hmac.digest(key, b'%d.' % seconds + body, 'sha256').hex()}"
