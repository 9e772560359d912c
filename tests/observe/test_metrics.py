"""Counting: differences are published once, samples are bounded, no name is a user's."""

from __future__ import annotations

import re

import pytest

from raychat.observe import metrics
from raychat.observe.metrics import (
    BUCKETS_COUNT,
    BUCKETS_MS,
    SAMPLES,
    GatewayMetrics,
    HostMetrics,
)


class Sink:
    """Adds up what it is given."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.gauges: dict[tuple[str, str | None], float] = {}
        self.observed: dict[str, list[float]] = {}

    def count(self, name: str, amount: int) -> None:
        assert amount > 0
        self.counts[name] = self.counts.get(name, 0) + amount

    def gauge(self, name: str, value: float, peer: str | None = None) -> None:
        self.gauges[name, peer] = value

    def observe(self, name: str, value: float) -> None:
        self.observed.setdefault(name, []).append(value)

    @property
    def names(self) -> set[str]:
        return {*self.counts, *self.observed, *(name for name, _ in self.gauges)}


def turn(host: HostMetrics, appended: int = 0, settled: tuple[tuple[int, ...], ...] = ()) -> None:
    host.committed(appended + len(settled), 0.002, appended, settled, 1_000)


def everything() -> Sink:
    """A sink that has been given every metric there is."""
    sink, host, gateway = Sink(), HostMetrics(), GatewayMetrics()
    for counted in (host, gateway):
        for name in counted.COUNTERS:
            setattr(counted, name, 1)
    turn(host, 1, ((990,),))
    host.gauges(users=1, inbox=2, store_bytes=3, links={"gateway-0": 4})
    gateway.connections = 1
    host.publish(sink)
    gateway.publish(sink)
    return sink


def test_what_has_been_counted_is_published_once() -> None:
    host, sink = HostMetrics(), Sink()
    turn(host, 3)
    host.publish(sink)
    host.publish(sink)
    turn(host, 2, ((900, 950), (999,)))
    host.publish(sink)
    assert sink.counts == {"accepted_total": 5, "turns_total": 2, "delivered_total": 3}


def test_a_counter_that_has_not_moved_is_not_published() -> None:
    sink = Sink()
    HostMetrics().publish(sink)
    GatewayMetrics().publish(sink)
    assert sink.counts == {}


def test_two_hosts_do_not_share_their_counts() -> None:
    one, two, sink = HostMetrics(), HostMetrics(), Sink()
    turn(one, 7)
    two.publish(sink)
    assert sink.counts == {}


def test_times_are_in_milliseconds_and_published_once() -> None:
    host, sink = HostMetrics(), Sink()
    turn(host, 1, ((400, 990),))
    host.publish(sink)
    host.publish(sink)
    assert sink.observed == {
        "turn_events": [2],
        "commit_ms": [pytest.approx(2.0)],
        "delivery_ms": [600, 10],
    }


def test_samples_of_a_second_are_bounded_and_counts_are_not() -> None:
    host, sink = HostMetrics(), Sink()
    for _ in range(SAMPLES * 3):
        turn(host, 1, ((999,),))
    host.publish(sink)
    assert {name: len(values) for name, values in sink.observed.items()} == {
        "turn_events": SAMPLES,
        "commit_ms": SAMPLES,
        "delivery_ms": SAMPLES,
    }
    assert sink.counts["delivered_total"] == SAMPLES * 3


def test_gauges_say_how_it_is_now_for_each_link() -> None:
    host, gateway, sink = HostMetrics(), GatewayMetrics(), Sink()
    for inbox in (9, 2):
        host.gauges(users=1, inbox=inbox, store_bytes=3, links={"gateway-0": 4, "host-1": 5})
        host.publish(sink)
    gateway.connections, gateway.links = 6, {"host-0": 7}
    gateway.publish(sink)
    assert sink.gauges == {
        ("users", None): 1,
        ("inbox_envelopes", None): 2,
        ("store_bytes", None): 3,
        ("link_bytes", "gateway-0"): 4,
        ("link_bytes", "host-1"): 5,
        ("connections", None): 6,
        ("link_bytes", "host-0"): 7,
    }


def test_the_table_of_metrics_is_what_is_published() -> None:
    table = set(re.findall(r"raychat_([a-z_]+[a-z])", metrics.__doc__ or ""))
    assert everything().names == table


@pytest.mark.parametrize("buckets", [BUCKETS_MS, BUCKETS_COUNT], ids=["ms", "count"])
def test_buckets_grow(buckets: tuple[float, ...]) -> None:
    assert list(buckets) == sorted(set(buckets))
