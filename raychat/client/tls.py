"""Where a client finds its server, and whom it believes to be it."""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp

from raychat.errors import BadRequest

DEFAULT_SERVER: Final = "http://127.0.0.1:8443"


def server_url(given: str | None = None) -> str:
    """The server's URL: as given, else $RAYCHAT_SERVER, else one on this machine.

    Raises BadRequest for what is no URL.
    """
    url = given or os.environ.get("RAYCHAT_SERVER") or DEFAULT_SERVER
    if "://" not in url:
        url = f"https://{url}"
    if not url.startswith(("http://", "https://")):
        raise BadRequest("A server is given as its URL, like https://chat.example.")
    return url.rstrip("/")


def session() -> aiohttp.ClientSession:
    """An HTTP session; $RAYCHAT_TLS_CA names the certificate of an authority of one's own."""
    authority = os.environ.get("RAYCHAT_TLS_CA")
    context: ssl.SSLContext | bool = True
    if authority:
        try:
            context = ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError) as error:
            raise BadRequest("RAYCHAT_TLS_CA is not a file of certificates.") from error
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
