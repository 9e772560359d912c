"""Calls to the web services of providers: bounded in time and size, following no redirects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from raychat import limits
from raychat.errors import Unavailable


class Answer(NamedTuple):
    """What a service answered."""

    status: int
    body: bytes

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object, empty if it is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class Web:
    """A client of one service. Errors name no URL: it may hold a password."""

    def __init__(self, refusal: str) -> None:
        """`refusal` is the sentence for people when the service does not answer."""
        self._refusal = refusal
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self,
        url: str,
        body: bytes | Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send bytes, or fields as a form. Raises Unavailable if no answer comes."""
        if self._session is None:
            # Nothing a service sets for one number may come back with the next.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        timeout = aiohttp.ClientTimeout(total=limits.PROVIDER_SECONDS)
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                data = bytearray()
                async for chunk in response.content.iter_chunked(16 * 1024):
                    data += chunk
                    if len(data) > limits.PROVIDER_ANSWER_BYTES:
                        raise Unavailable(self._refusal)
                return Answer(response.status, bytes(data))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raise Unavailable(self._refusal) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
