"""Time, in one place, so that rules can be given another one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since 1970."""

    def __call__(self) -> int: ...


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that goes when it is told to."""

    __slots__ = ("now",)

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, ms: int) -> None:
        self.now += ms
