"""Idle connections: what an authenticated WebSocket costs, and how fast they come.

    .venv/bin/python benchmarks/connections.py [--connections 5000] [--json FILE]
                                               [--peers ejabberd]

KiB (PSS) each in gateway and host together, connects a second, server CPU per connect. Each
system is started anew, so that memory it had kept from before does not hide the connections.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.measure import measure
from benchmarks.harness.report import Report
from benchmarks.harness.scenario import Idle
from benchmarks.peers.ejabberd import Ejabberd, why_missing
from benchmarks.peers.raychat import RaychatServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=1, help="runs; medians are reported")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--peers", default="ejabberd", help="which to run beside, or none")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    report = Report("connections")
    scenario = Idle(options.connections)
    for _ in range(options.repeat):
        with RaychatServer(scenario.users()) as server:
            report.add(measure(server, scenario))
        if "ejabberd" in options.peers:
            missing = why_missing("memory")
            if missing:
                report.note(f"ejabberd left out: {missing}")
                continue
            with Ejabberd("memory") as peer:
                report.add(measure(peer, scenario))
    report.print()
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
