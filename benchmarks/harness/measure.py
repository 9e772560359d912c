"""One scenario against one server: load, CPU, memory, and the figures of it."""

from __future__ import annotations

import time
from dataclasses import replace
from time import perf_counter

from .cpu import CpuMeter
from .generator import Generators
from .report import Result, percentile_ms
from .scenario import Closed, Drain, Idle, Open, Scenario, Store, Tally, merge
from .wire import Server

__all__ = ["measure"]

_WORK_TIMEOUT_S = 900.0
_WARM_CONNECTIONS = 50
"""Connections made and closed before memory is first read, so that all code is loaded."""


def measure(server: Server, scenario: Scenario, *, processes: int = 1) -> Result:
    """Run the scenario with `processes` generator processes and return its figures.

    `server_cpu_us` and `load_cpu_us` are CPU microseconds per message (per connection in
    `Idle`). `unanswered`, `repeated` and `failed` should be 0 and appear only when not.

    `Idle` wants a server fresh from its start: one that has worked keeps memory that the
    connections would then fill unseen.
    """
    wire = server.wire(scenario.users())
    memory = 0
    if isinstance(scenario, Idle):
        few = replace(scenario, connections=min(_WARM_CONNECTIONS, scenario.connections))
        with Generators(few, wire) as generators:
            generators.begin(0, 0)
            generators.tallies(_WORK_TIMEOUT_S)
        time.sleep(scenario.settle)
        memory = server.processes.pss_kib()
    figures: dict[str, float]
    with Generators(scenario, wire, processes) as generators:
        if isinstance(scenario, Closed | Open):
            figures = _timed(server, scenario, generators)
        else:
            meter = CpuMeter(server.processes)
            now = perf_counter()
            generators.begin(now, now)
            tally = merge(generators.tallies(_WORK_TIMEOUT_S))
            figures = _work(scenario, tally, meter.seconds())
            if isinstance(scenario, Idle):
                time.sleep(scenario.settle)
                grown = server.processes.pss_kib() - memory
                figures = {"per_connection_kib": grown / max(1, tally.done)} | figures
    return Result(server.name, scenario.name, figures)


def _timed(server: Server, scenario: Closed | Open, generators: Generators) -> dict[str, float]:
    start = perf_counter() + scenario.warmup
    end = start + scenario.seconds
    generators.begin(start, end)
    time.sleep(start - perf_counter())
    meter = CpuMeter(server.processes)
    while (left := end - perf_counter()) > 0:
        time.sleep(min(left, 1.0))
        if left > 1.0:
            meter.sample()
    cpu_s = meter.seconds()
    tally = merge(generators.tallies(60))
    seconds = scenario.warmup + scenario.seconds
    return {
        "delivered_per_s": tally.done / scenario.seconds,
        "server_cpu_us": _each_us(cpu_s, tally.done),
        "one_way_p50_ms": percentile_ms(tally.one_way_us, 0.50),
        "one_way_p99_ms": percentile_ms(tally.one_way_us, 0.99),
        "round_trip_p50_ms": percentile_ms(tally.round_trip_us, 0.50),
        "round_trip_p99_ms": percentile_ms(tally.round_trip_us, 0.99),
        "load_cpu_us": _each_us(tally.load_cpu_s * scenario.seconds / seconds, tally.done),
    } | _troubles(tally)


def _work(scenario: Store | Drain | Idle, tally: Tally, cpu_s: float) -> dict[str, float]:
    per_s = tally.done / max(1e-9, tally.ended - tally.started)
    if isinstance(scenario, Idle):
        names = ("connects_per_s", "connect_cpu_us", "connect")
    else:
        names = ("per_s", "server_cpu_us", "accepted" if isinstance(scenario, Store) else "online")
    return {
        names[0]: per_s,
        names[1]: _each_us(cpu_s, tally.done),
        f"{names[2]}_p50_ms": percentile_ms(tally.round_trip_us, 0.50),
        f"{names[2]}_p99_ms": percentile_ms(tally.round_trip_us, 0.99),
        "load_cpu_us": _each_us(tally.load_cpu_s, tally.done),
    } | _troubles(tally)


def _each_us(seconds: float, count: int) -> float:
    return seconds / max(1, count) * 1e6


def _troubles(tally: Tally) -> dict[str, float]:
    found = {
        "unanswered": tally.unanswered,
        "repeated": tally.repeated,
        "failed": tally.failed,
    }
    for reason in tally.failures:
        print(f"failure: {reason}")
    return {name: float(count) for name, count in found.items() if count}
