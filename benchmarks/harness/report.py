"""The one JSON shape of every benchmark, and its table on the terminal.

    {"machine": {"cores": 2, "memory": "23.5 GiB", "kernel": ..., "python": ..., "ray": ...},
     "results": [{"system": "raychat", "scenario": "closed", "delivered_per_s": 25000.0, ...}],
     "ratios":  [{"system": "raychat", "to": "ejabberd-memory", "scenario": "closed",
                  "delivered_per_s": 2.6, ...}]}

The name of a figure ends in its unit (`_per_s`, `_us`, `_ms`, `_kib`). A ratio is the system's
figure divided by the peer's: above 1 is better for rates, below 1 for times and sizes. With
several runs each figure is the median of the runs.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

__all__ = ["Report", "Result", "machine", "percentile_ms"]


_UNITS = ("_per_s", "_us", "_ms", "_kib")
"""Endings of the figures that can be compared; others (counts of failures) have no ratio."""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one system in one scenario; names carry the unit."""

    system: str
    scenario: str
    figures: Mapping[str, float]


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        ray = metadata.version("ray")
    except metadata.PackageNotFoundError:
        ray = ""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{pages / 2**30:.1f} GiB",
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ray": ray,
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def percentile_ms(samples_us: Sequence[int], share: float) -> float:
    """The `share` (0 to 1) percentile of sorted microseconds, in ms; NaN-free: 0 if empty."""
    if not samples_us:
        return 0.0
    return samples_us[min(len(samples_us) - 1, int(share * len(samples_us)))] / 1000


@dataclass(slots=True)
class Report:
    """Collects results of one or more runs; the first system named is the one compared."""

    title: str
    system: str = "raychat"
    runs: dict[tuple[str, str], list[Mapping[str, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, *results: Result) -> None:
        """Add results; the same system and scenario again is another run."""
        for result in results:
            self.runs.setdefault((result.scenario, result.system), []).append(result.figures)

    def note(self, text: str) -> None:
        """A remark under the table, such as a peer that was left out."""
        self.notes.append(text)

    def results(self) -> list[Result]:
        """Medians over the runs, in the order in which systems and scenarios came."""
        return [
            Result(system, scenario, {name: _median(runs, name) for name in _names(runs)})
            for (scenario, system), runs in self.runs.items()
        ]

    def ratios(self) -> list[dict[str, str | float]]:
        """Each figure of the system divided by each peer's, per scenario."""
        results = self.results()
        own = {r.scenario: r.figures for r in results if r.system == self.system}
        rows: list[dict[str, str | float]] = []
        for result in results:
            if result.system == self.system or result.scenario not in own:
                continue
            row: dict[str, str | float] = {
                "system": self.system,
                "to": result.system,
                "scenario": result.scenario,
            }
            for name, value in own[result.scenario].items():
                peer = result.figures.get(name)
                if peer and name.endswith(_UNITS):
                    row[name] = round(value / peer, 3)
            rows.append(row)
        return rows

    def as_json(self) -> dict[str, object]:
        """The shape in the module's docstring."""
        results = [
            {"system": r.system, "scenario": r.scenario}
            | {name: round(value, 3) for name, value in r.figures.items()}
            for r in self.results()
        ]
        return {"machine": machine(), "results": results, "ratios": self.ratios()}

    def write(self, path: Path) -> None:
        """Write the JSON file, making its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")

    def print(self, console: Console | None = None) -> None:
        """One table per scenario: a row per figure, a column per system and ratio."""
        console = console or Console()
        facts = ", ".join(f"{name} {value}" for name, value in machine().items())
        console.print(f"[bold]{self.title}[/bold]\n{facts}", highlight=False, soft_wrap=True)
        results, ratios = self.results(), self.ratios()
        for scenario in dict.fromkeys(r.scenario for r in results):
            rows = [r for r in results if r.scenario == scenario]
            peers = [r for r in ratios if r["scenario"] == scenario]
            count = max(len(self.runs[scenario, r.system]) for r in rows)
            table = Table(scenario if count == 1 else f"{scenario}\nmedian of {count}")
            for result in rows:
                table.add_column(result.system, justify="right")
            for peer in peers:
                table.add_column(f"{self.system}\n/ {peer['to']}", justify="right", style="dim")
            for name in _names(r.figures for r in rows):
                values = [_figure(r.figures[name]) if name in r.figures else "" for r in rows]
                shares = [f"{peer[name]:.2f}x" if name in peer else "" for peer in peers]
                table.add_row(name, *values, *shares)
            console.print(table)
        for note in self.notes:
            console.print(note, style="yellow")


def _names(figures: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for each in figures for name in each))


def _median(runs: Iterable[Mapping[str, float]], name: str) -> float:
    return median(run[name] for run in runs if name in run)


def _figure(value: float) -> str:
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
