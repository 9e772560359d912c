"""The rules of the registration lock. Pure: no clock, no store, no hashing.

An account may have a PIN, without which its number alone is not enough to register a new device:
a number can be taken over (a SIM swapped, a text read along), a PIN in somebody's head cannot.

- A try is spent before the PIN is looked at, so that a crash gives none back. The right PIN gives
  them all back. A try returns each day.
- The lock ends 7 days after the last day the account was seen: whoever has the number then is
  its new owner, or has lost phone and PIN both.

Times are milliseconds since 1970, days are counted from then.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from raychat import limits
from raychat.budgets import Budget, spend
from raychat.errors import BadPin, Locked, Malformed

SECOND: Final = 1000
DAY: Final = 86_400 * SECOND

TRIES: Final = Budget(limits.PIN_TRIES, 1 / limits.PIN_TRY_SECONDS)


class Lock(NamedTuple):
    """The PIN of an account as a slow hash, and the bucket of its tries (see `budgets`)."""

    hash: str
    full_at: int

    def __repr__(self) -> str:
        return f"Lock(…, full_at={self.full_at})"


def check_pin(text: str) -> str:
    """A PIN as a person typed it, without spaces at its ends. Raises Malformed."""
    pin = text.strip()
    if not limits.PIN_CHARS_MIN <= len(pin) <= limits.PIN_CHARS:
        raise Malformed(f"A PIN is {limits.PIN_CHARS_MIN} to {limits.PIN_CHARS} characters long.")
    return pin


def new(hashed: str, now: int) -> Lock:
    return Lock(hashed, now)


def day(now: int) -> int:
    """The day a time is in."""
    return now // DAY


def expires(seen: int) -> int:
    """When the lock of an account ends that was last seen on a day."""
    return (seen + 1 + limits.LOCK_DAYS) * DAY


def holds(lock: Lock | None, seen: int, now: int) -> bool:
    return lock is not None and now < expires(seen)


def spend_try(lock: Lock, seen: int, now: int) -> Lock:
    """The lock with a try less, to be kept before the PIN is looked at. Raises Locked."""
    after, wait = spend(TRIES, lock.full_at / SECOND, now / SECOND)
    if wait > 0:
        seconds = ceil(min(wait, (expires(seen) - now) / SECOND))
        raise Locked(
            f"Too many wrong PINs were given; the next try is in {_time(seconds)}.",
            {"seconds": seconds, "tries": 0},
        )
    return lock._replace(full_at=ceil(after * SECOND))


def tries(lock: Lock, now: int) -> int:
    """How many tries are left for now."""
    spent = max(0, lock.full_at - now) / SECOND * TRIES.per_second
    return max(0, int(TRIES.burst - spent + 1e-3))


def pin_wanted(lock: Lock, seen: int, now: int) -> Locked:
    """The error for who gave no PIN."""
    seconds = ceil((expires(seen) - now) / SECOND)
    return Locked(
        "This number is locked with a PIN; give it. Unless the account is used again, the lock"
        f" ends in {_time(seconds)}.",
        {"seconds": seconds, "tries": tries(lock, now)},
    )


def wrong(lock: Lock, now: int) -> BadPin:
    """The error for who gave another PIN."""
    left = tries(lock, now)
    many = "no try is" if left == 0 else "one try is" if left == 1 else f"{left} tries are"
    return BadPin(f"The PIN is wrong; {many} left for now.", {"tries": left})


def opened(lock: Lock, now: int) -> Lock:
    """The lock after the right PIN."""
    return lock._replace(full_at=now)


def _time(seconds: int) -> str:
    hours = ceil(seconds / 3600)
    if hours == 1:
        return "less than an hour"
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"
