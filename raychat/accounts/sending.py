"""The rules of sending codes. Pure: no clock, no store.

A code is sent if its number, the number's prefix and all numbers together have budget for it:

    number   waits 60 s after the first code, 120 s after the second, 240 s … (`Pace`)
    prefix   a token bucket, and a watch on how many of its codes are ever typed in (`Pool`)
    all      the same with larger numbers

Who pumps codes to numbers that earn money by them, or guesses at strangers' numbers, types in
few; where conversion is poor each code costs `POOR_PRICE` times as much. What is kept of numbers
and prefixes outlives restarts, or an attacker would get all budgets anew by causing one.
Times are milliseconds since 1970.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple, Self

from raychat import limits
from raychat.budgets import Budget, spend
from raychat.errors import RateLimited

SECOND = 1000
DAY = 86_400 * SECOND


class Pace(NamedTuple):
    """What is known of a number: how many codes in a row it was sent, and when the last."""

    codes: int
    at: int


class Pool(NamedTuple):
    """What is known of a prefix: its bucket (see `budgets`), and codes sent and typed in, both
    fading with time, as they were at `at`."""

    full_at: int
    sent: float
    verified: float
    at: int


class Watched(NamedTuple):
    """The budget of a pool, and from how many codes on its conversion says something."""

    budget: Budget
    watch_from: float


class Sending(NamedTuple):
    """How fast codes may be sent."""

    wait_ms: int
    wait_max_ms: int
    prefix: Watched
    all: Watched

    @classmethod
    def of_limits(cls, scale: float = 1) -> Self:
        """What `limits` says; budgets are `scale` times as large and waits as short."""
        return cls(
            round(limits.CODE_WAIT_SECONDS * SECOND / scale),
            round(limits.CODE_WAIT_MAX_SECONDS * SECOND / scale),
            Watched(
                Budget(limits.PREFIX_CODES * scale, scale / limits.PREFIX_CODE_SECONDS),
                limits.CONVERSION_PREFIX * scale,
            ),
            Watched(
                Budget(limits.ALL_CODES * scale, scale / limits.ALL_CODE_SECONDS),
                limits.CONVERSION_ALL * scale,
            ),
        )

    def wait(self, pace: Pace | None) -> int:
        """Milliseconds from a number's last code to its next."""
        if pace is None or pace.codes == 0:
            return 0
        doublings = min(pace.codes - 1, 40)
        return min(self.wait_ms << doublings, self.wait_max_ms)


class Known(NamedTuple):
    """What is known when a code is asked for, or afterwards."""

    pace: Pace | None
    prefix: Pool | None
    all: Pool | None


def check_pace(rules: Sending, pace: Pace | None, now: int) -> None:
    """Raises RateLimited while a number must wait for its next code."""
    pace = _remembered(pace, now)
    if pace is not None:
        left = min(pace.at, now) + rules.wait(pace) - now
        if left > 0:
            seconds = ceil(left / SECOND)
            raise RateLimited(
                f"A code was sent already; the next one can be had in {seconds} seconds.",
                {"seconds": seconds},
            )


def send(rules: Sending, known: Known, now: int) -> Known:
    """What is known after one more code. Raises RateLimited, and then nothing is spent."""
    check_pace(rules, known.pace, now)
    prefix, wait = _spend(rules.prefix, known.prefix, now)
    everything, wait_all = _spend(rules.all, known.all, now)
    wait = max(wait, wait_all)
    if wait > 0:
        seconds = ceil(wait)
        raise RateLimited(
            f"Too many codes are being sent; try again in {seconds} seconds.",
            {"seconds": seconds},
        )
    before = _remembered(known.pace, now)
    return Known(Pace(before.codes + 1 if before else 1, now), prefix, everything)


def verified(pool: Pool | None, now: int) -> Pool:
    """A pool after one of its codes was typed in."""
    pool = _faded(pool, now)
    return pool._replace(verified=pool.verified + 1)


def is_poor(watched: Watched, pool: Pool | None, now: int) -> bool:
    """Whether so few codes are typed in that most seem to be asked for by machines."""
    pool = _faded(pool, now)
    few = pool.sent * limits.CONVERSION_PERCENT / 100
    return pool.sent >= watched.watch_from and pool.verified < few


def _remembered(pace: Pace | None, now: int) -> Pace | None:
    if pace is not None and now - pace.at >= limits.CODE_FORGET_DAYS * DAY:
        return None
    return pace


def _spend(watched: Watched, pool: Pool | None, now: int) -> tuple[Pool, float]:
    price = limits.POOR_PRICE if is_poor(watched, pool, now) else 1
    pool = _faded(pool, now)
    full_at, wait = spend(watched.budget, pool.full_at / SECOND, now / SECOND, price)
    return pool._replace(full_at=ceil(full_at * SECOND), sent=pool.sent + 1), wait


def _faded(pool: Pool | None, now: int) -> Pool:
    if pool is None:
        return Pool(now, 0, 0, now)
    part = 0.5 ** (max(0, now - pool.at) / SECOND / limits.CONVERSION_HALF_SECONDS)
    return Pool(pool.full_at, pool.sent * part, pool.verified * part, now)


def forget_before(now: int) -> tuple[int, int]:
    """Times of the last code before which what is known of (a number, a pool) says nothing."""
    fade = 20 * limits.CONVERSION_HALF_SECONDS * SECOND
    return now - limits.CODE_FORGET_DAYS * DAY, now - fade
