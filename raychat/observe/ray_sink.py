"""Figures into ray.util.metrics, and so to each node's Prometheus endpoint and the dashboard."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from raychat.observe.metrics import BUCKETS_COUNT, BUCKETS_MS


class RaySink:
    """A `Sink` of one actor. Labels: `role` and `actor`; dedicated hosts share one label, so
    that no series is named after a user."""

    def __init__(self, role: str, actor: str) -> None:
        self._tags = {"role": role, "actor": actor}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}

    def count(self, name: str, amount: int) -> None:
        if name not in self._counters:
            self._counters[name] = Counter(f"raychat_{name}", tag_keys=tuple(self._tags))
        self._counters[name].inc(amount, tags=self._tags)

    def gauge(self, name: str, value: float, peer: str | None = None) -> None:
        tags = self._tags if peer is None else {**self._tags, "peer": peer}
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"raychat_{name}", tag_keys=tuple(tags))
        self._gauges[name].set(value, tags=tags)

    def observe(self, name: str, value: float) -> None:
        if name not in self._histograms:
            bounds = BUCKETS_COUNT if name.endswith("events") else BUCKETS_MS
            self._histograms[name] = Histogram(
                f"raychat_{name}", boundaries=list(bounds), tag_keys=tuple(self._tags)
            )
        self._histograms[name].observe(value, tags=self._tags)
