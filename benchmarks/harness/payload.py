"""The 300-byte message body: opaque to servers, a time stamp to the load generator.

Layout, all printable ASCII so that the same bytes travel in a binary frame and in XML text:
8 hex digits of microseconds (CLOCK_MONOTONIC, modulo 2**32, comparable between processes of
this machine), 8 hex digits of serial number, then filler from the base64 alphabet.
"""

from __future__ import annotations

import random
from time import perf_counter

__all__ = ["SIZE", "Payloads", "age_us", "serial"]

SIZE = 300
"""Bytes in a message body."""

_MASK = 0xFFFFFFFF
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Payloads:
    """Makes message bodies with serial numbers that are unique over generator processes."""

    def __init__(self, process: int, seed: int = 0) -> None:
        self._serial = process << 24
        fill = random.Random(seed)
        self._filler = bytes(fill.choices(_ALPHABET, k=SIZE - 16))

    def stamped(self, now: float) -> bytes:
        """A body stamped with `now` (seconds, from perf_counter)."""
        self._serial = number = self._serial + 1
        return b"%08x%08x%b" % (int(now * 1e6) & _MASK, number, self._filler)


def age_us(payload: bytes) -> int:
    """Microseconds since the body was stamped (right up to 71 minutes)."""
    return (int(perf_counter() * 1e6) - int(payload[:8], 16)) & _MASK


def serial(payload: bytes) -> bytes:
    """The serial number as its 8 hex digits, to tell messages from repetitions."""
    return payload[8:16]
