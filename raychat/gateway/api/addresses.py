"""Where a call comes from, for budgets per client address.

Behind a proxy every call comes from the proxy, which says in X-Forwarded-For whom it serves.
Anybody can send that header, so it is believed from the proxies an operator names and only as
far back as they vouch for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aiohttp import web

from raychat.config import Network

UNKNOWN: Final = "unknown"
"""Where a call comes from that came over no IP connection."""

PREFIX: Final = 64
"""Bits of an IPv6 address that one client has for itself, or more: it is counted by them."""


class Addresses:
    """Tells client addresses, given the networks of the trusted proxies."""

    __slots__ = ("_proxies",)

    def __init__(self, proxies: Iterable[Network] = ()) -> None:
        self._proxies = tuple(proxies)

    def of(self, request: web.Request) -> str:
        """The client of a request: an IPv4 address, or the /64 network of an IPv6 one."""
        peer = request.transport.get_extra_info("peername") if request.transport else None
        direct = peer[0] if isinstance(peer, tuple) and peer else ""
        return self.client(direct, request.headers.getall("X-Forwarded-For", []))

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The same from a peer's address and the values of its X-Forwarded-For headers."""
        address = _address(peer)
        if address is None:
            return UNKNOWN
        # Each proxy appends whom it serves: the last entry is the nearest proxy's word, and the
        # one before it is worth something only if that one is a proxy of ours as well.
        hops = [hop for value in forwarded for hop in value.split(",")]
        while hops and self._trusts(address):
            before = _address(hops.pop())
            if before is None:
                break
            address = before
        return _key(address)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: bare, in brackets, with a port or a zone."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _key(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), PREFIX), strict=False))


__all__ = ["PREFIX", "UNKNOWN", "Addresses"]
