"""What hosts and gateways count, and how it reaches Prometheus.

Counting is adding to an integer. Once a second `publish` hands the differences to a sink
(`observe.ray_sink`: ray.util.metrics, seen at each node's metrics endpoint with the prefix
`ray_`). No label names a user. Times of single messages are sampled: the first SAMPLES of each
second, since a histogram costs more than a message does.

    raychat_accepted_total          messages taken into inboxes
    raychat_delivered_total         messages decrypted and kept by their device
    raychat_expired_total           envelopes that outlived the retention
    raychat_waiting_total           messages taken for a device that was not connected
    raychat_inbox_envelopes         envelopes in all inboxes of a host
    raychat_store_bytes             size of a host's store
    raychat_users                   Users in memory
    raychat_activated_total, raychat_passivated_total
    raychat_turns_total, raychat_failed_turns_total
    raychat_turn_events             histogram: events of a turn
    raychat_commit_ms               histogram: how long a commit takes, in ms
    raychat_delivery_ms             histogram: from taken to acknowledged by the device, in ms
    raychat_link_bytes              bytes on a link that the other side has not dealt with
    raychat_connections             open WebSockets of a gateway
    raychat_connects_total, raychat_closed_total, raychat_frames_total, raychat_refused_total
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

SAMPLES: Final = 64

BUCKETS_MS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5, 1e6)
BUCKETS_COUNT: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Sink(Protocol):
    """Where figures go. Names are without the `raychat_` prefix."""

    def count(self, name: str, amount: int) -> None: ...

    def gauge(self, name: str, value: float, peer: str | None = None) -> None: ...

    def observe(self, name: str, value: float) -> None: ...


class _Counts:
    """Counters by attribute; `_publish_counts` hands on what they grew by."""

    COUNTERS: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._published = dict.fromkeys(self.COUNTERS, 0)
        for name in self.COUNTERS:
            setattr(self, name, 0)

    def publish(self, sink: Sink) -> None:
        for name, before in self._published.items():
            now = getattr(self, name)
            if now != before:
                sink.count(f"{name}_total", now - before)
                self._published[name] = now


class HostMetrics(_Counts):
    """What a UserHost counts."""

    COUNTERS = (
        "accepted",
        "delivered",
        "expired",
        "waiting",
        "activated",
        "passivated",
        "turns",
        "failed_turns",
    )
    accepted: int
    delivered: int
    expired: int
    waiting: int
    activated: int
    passivated: int
    turns: int
    failed_turns: int

    def __init__(self) -> None:
        super().__init__()
        self._turn_events: list[int] = []
        self._commit_ms: list[float] = []
        self._delivery_ms: list[int] = []
        self._gauges: dict[str, float] = {}
        self._links: dict[str, int] = {}

    def committed(
        self, events: int, seconds: float, appended: int, settled: Iterable[Sequence[int]], now: int
    ) -> None:
        """One turn is durable: `events` in it, the commit took `seconds`, `appended` envelopes
        came, and `settled` (when they had been taken, ms) were delivered at `now`."""
        self.turns += 1
        self.accepted += appended
        for times in settled:
            self.delivered += len(times)
            if len(self._delivery_ms) < SAMPLES:
                self._delivery_ms.extend(now - at for at in times)
        if len(self._commit_ms) < SAMPLES:
            self._turn_events.append(events)
            self._commit_ms.append(seconds * 1000)

    def gauges(self, *, users: int, inbox: int, store_bytes: int, links: dict[str, int]) -> None:
        self._gauges = {"users": users, "inbox_envelopes": inbox, "store_bytes": store_bytes}
        self._links = links

    def publish(self, sink: Sink) -> None:
        super().publish(sink)
        for name, values in (
            ("turn_events", self._turn_events),
            ("commit_ms", self._commit_ms),
            ("delivery_ms", self._delivery_ms),
        ):
            for value in values:
                sink.observe(name, value)
            values.clear()
        for name, value in self._gauges.items():
            sink.gauge(name, value)
        for peer, size in self._links.items():
            sink.gauge("link_bytes", size, peer)


class GatewayMetrics(_Counts):
    """What a gateway counts."""

    COUNTERS = ("connects", "closed", "frames", "refused")
    connects: int
    closed: int
    frames: int
    refused: int

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0
        self.links: dict[str, int] = {}

    def publish(self, sink: Sink) -> None:
        super().publish(sink)
        sink.gauge("connections", self.connections)
        for peer, size in self.links.items():
            sink.gauge("link_bytes", size, peer)
