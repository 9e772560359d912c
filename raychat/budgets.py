"""Token buckets: how often something may happen, for each of many keys. Pure; time is given.

A bucket is one number, the moment at which it is full again. It is empty `burst / per_second`
seconds before that moment, so taking moves the moment away and time brings it nearer.
Times are seconds of whatever clock the caller has, as long as it is the same one each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

from raychat.limits import Fails

ROUNDING: Final = 1e-6
"""Seconds by which a taker may be early: who waits as long as told must not be told again."""


class Budget(NamedTuple):
    """`burst` at once, and `per_second` (above zero) in the long run."""

    burst: float
    per_second: float


def spend(budget: Budget, full_at: float, now: float, amount: float = 1) -> tuple[float, float]:
    """Take from the bucket that is full at `full_at`: (when it is full then, 0), or, if it holds
    too little, (when it is full anyway, seconds until it holds enough: infinite if never)."""
    drained = budget.burst / budget.per_second
    # A clock that was set back must not make a bucket emptier than empty.
    full_at = min(max(full_at, now), now + drained)
    after = full_at + amount / budget.per_second
    wait = after - now - drained
    if wait <= ROUNDING:
        return after, 0.0
    return full_at, wait if amount <= budget.burst else float("inf")


class Budgets:
    """A bucket of the same budget for each key. Forgets full buckets first of all.

    It remembers `keys` buckets. When as many are less than full, a new key makes it forget the
    one that was asked for least recently (`open`), or is refused until one is full (`closed`).
    """

    __slots__ = ("_budget", "_fails", "_full_at", "_keys")

    def __init__(self, budget: Budget, keys: int = 100_000, fails: Fails = "open") -> None:
        self._budget = budget
        self._keys = keys
        self._fails = fails
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, now: float, amount: float = 1) -> float:
        """0 if granted, else the seconds until it would be; nothing is taken then."""
        known = self._full_at.get(key)
        if known is None:
            wait = self._make_room(now)
            if wait > 0:
                return wait
        after, wait = spend(self._budget, now if known is None else known, now, amount)
        self._full_at[key] = after
        self._full_at.move_to_end(key)
        return wait

    def wait(self, key: Hashable, now: float, amount: float = 1) -> float:
        """What `take` would answer, with nothing taken; a full table is not looked at."""
        return spend(self._budget, self._full_at.get(key, now), now, amount)[1]

    def give_back(self, key: Hashable, now: float, amount: float = 1) -> None:
        """Undo a `take`: what it paid for did not happen."""
        if key in self._full_at:
            self._full_at[key] = max(now, self._full_at[key] - amount / self._budget.per_second)

    def __len__(self) -> int:
        return len(self._full_at)

    def _make_room(self, now: float) -> float:
        while len(self._full_at) >= self._keys:
            oldest, full_at = next(iter(self._full_at.items()))
            drained = self._budget.burst / self._budget.per_second
            if self._fails == "closed" and now < full_at <= now + drained:
                return full_at - now
            del self._full_at[oldest]
        return 0.0
