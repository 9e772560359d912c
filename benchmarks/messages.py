"""1:1 messages: raychat beside ejabberd, in one run on this machine.

    .venv/bin/python benchmarks/messages.py [--seconds 8] [--repeat 3] [--json FILE]
                                            [--peers ejabberd,ejabberd-archive]

50 pairs, 300-byte opaque bodies, each message answered by a receipt that comes back to its
sender: closed loop with 8 outstanding per pair, then 500 messages a second; then 100 messages to
each of 200 users who are offline, who all come at once afterwards. The load generator shares
the cores with the server. raychat has every message on disk (fsync) before its ack, ejabberd
in memory has not; `ejabberd-archive` keeps archive and offline messages on PostgreSQL.

Server CPU counts every server process: for raychat the launcher, Ray's own and the actors.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.measure import measure
from benchmarks.harness.report import Report
from benchmarks.harness.scenario import Closed, Drain, Open, Scenario, Store
from benchmarks.peers.ejabberd import Ejabberd, why_missing
from benchmarks.peers.raychat import RaychatServer

PEERS = {"ejabberd": "memory", "ejabberd-archive": "archive"}


def scenarios(seconds: float) -> list[Scenario]:
    return [Closed(seconds=seconds), Open(500, seconds=seconds), Store(), Drain()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=8, help="length of each timed scenario")
    parser.add_argument("--repeat", type=int, default=1, help="runs; medians are reported")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--peers", default=",".join(PEERS), help="which to run beside, or none")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    report = Report("messages")
    peers = [name for name in options.peers.split(",") if name and name != "none"]
    for _ in range(options.repeat):
        users = [user for scenario in scenarios(1) for user in scenario.users()]
        with RaychatServer(sorted(set(users))) as server:
            for scenario in scenarios(options.seconds):
                report.add(measure(server, scenario))
        for name in peers:
            variant = PEERS[name]
            missing = why_missing(variant)
            if missing:
                report.note(f"{name} left out: {missing}")
                continue
            with Ejabberd(variant) as peer:
                for scenario in scenarios(options.seconds):
                    report.add(measure(peer, scenario))
    report.print()
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
