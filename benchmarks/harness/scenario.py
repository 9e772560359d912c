"""The scenarios by their numbers, and what a generator process counts in them.

`Closed` and `Open` run for a time and are counted within a window of it; `Store`, `Drain` and
`Idle` are a fixed piece of work and are timed from its begin to its end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Closed", "Drain", "Idle", "Open", "Scenario", "Store", "Tally", "merge"]


@dataclass(frozen=True, slots=True)
class Closed:
    """Each sender keeps `outstanding` messages on the way; a receipt lets the next one go."""

    pairs: int = 50
    outstanding: int = 8
    seconds: float = 8.0
    warmup: float = 1.5

    @property
    def name(self) -> str:
        """`closed`"""
        return "closed"

    def users(self) -> list[str]:
        """Senders, then receivers."""
        return pair_users(self.pairs)


@dataclass(frozen=True, slots=True)
class Open:
    """`rate` messages per second over all pairs in turn, whatever the answers do.

    Evenly spaced (to the millisecond of the event loop's timer), or with exponential gaps
    from `seed` when `poisson`.
    """

    rate: float = 500.0
    pairs: int = 50
    seconds: float = 8.0
    warmup: float = 1.5
    poisson: bool = False
    seed: int = 1

    @property
    def name(self) -> str:
        """`open-500` for 500 messages per second."""
        return f"open-{self.rate:g}"

    def users(self) -> list[str]:
        """Senders, then receivers."""
        return pair_users(self.pairs)


@dataclass(frozen=True, slots=True)
class Store:
    """`senders` send `messages` to each of `recipients` users who are offline.

    Each keeps `outstanding` messages on the way, counted until the server acknowledges; what
    the acknowledgement promises is the server's affair and is said in its driver.
    """

    recipients: int = 200
    messages: int = 100
    senders: int = 10
    outstanding: int = 20
    patience: float = 20.0
    """Seconds without any progress after which the rest counts as unanswered."""

    @property
    def name(self) -> str:
        """`offline-store`"""
        return "offline-store"

    def users(self) -> list[str]:
        """Senders, then the offline recipients."""
        return [sender(i) for i in range(self.senders)] + offline_users(self.recipients)


@dataclass(frozen=True, slots=True)
class Drain:
    """All `recipients` of a `Store` connect at once and get their `messages`."""

    recipients: int = 200
    messages: int = 100
    patience: float = 20.0

    @property
    def name(self) -> str:
        """`offline-drain`"""
        return "offline-drain"

    def users(self) -> list[str]:
        """The recipients."""
        return offline_users(self.recipients)


@dataclass(frozen=True, slots=True)
class Idle:
    """`connections` users connect, `concurrent` at a time, and then only stay."""

    connections: int = 5000
    concurrent: int = 50
    settle: float = 5.0
    """Seconds from the last connect until memory is read."""

    @property
    def name(self) -> str:
        """`idle`"""
        return "idle"

    def users(self) -> list[str]:
        """One user per connection."""
        return [f"i{i:06d}" for i in range(self.connections)]


Scenario = Closed | Open | Store | Drain | Idle


def sender(pair: int) -> str:
    """The user that sends in a pair."""
    return f"s{pair:05d}"


def receiver(pair: int) -> str:
    """The user that answers in a pair."""
    return f"r{pair:05d}"


def pair_users(pairs: int) -> list[str]:
    """All senders, then all receivers."""
    return [sender(i) for i in range(pairs)] + [receiver(i) for i in range(pairs)]


def offline_users(recipients: int) -> list[str]:
    """Users who are never online but to drain."""
    return [f"o{i:05d}" for i in range(recipients)]


def _samples() -> array[int]:
    return array("L")


@dataclass(slots=True)
class Tally:
    """What one generator process counted; times in seconds of perf_counter, samples in us."""

    done: int = 0
    """messages answered, stored or drained, or connections made"""
    started: float = 0.0
    ended: float = 0.0
    one_way_us: array[int] = field(default_factory=_samples)
    round_trip_us: array[int] = field(default_factory=_samples)
    """until the receipt, the server's acknowledgement or the end of the log-in"""
    unanswered: int = 0
    repeated: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """the first few reasons"""
    load_cpu_s: float = 0.0
    """CPU seconds of the generator itself, warm-up included"""

    def fail(self, reason: str) -> None:
        """Count a failure and keep the first reasons."""
        self.failed += 1
        if len(self.failures) < 5:
            self.failures.append(reason)


def merge(tallies: Iterable[Tally]) -> Tally:
    """The tallies of several generator processes as one, samples sorted."""
    total = Tally(started=float("inf"))
    for tally in tallies:
        total.done += tally.done
        total.started = min(total.started, tally.started)
        total.ended = max(total.ended, tally.ended)
        total.one_way_us += tally.one_way_us
        total.round_trip_us += tally.round_trip_us
        total.unanswered += tally.unanswered
        total.repeated += tally.repeated
        total.failed += tally.failed
        total.failures += tally.failures
        total.load_cpu_s += tally.load_cpu_s
    total.one_way_us = array("L", sorted(total.one_way_us))
    total.round_trip_us = array("L", sorted(total.round_trip_us))
    return total
