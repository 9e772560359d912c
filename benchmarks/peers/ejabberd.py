"""Debian's ejabberd with a configuration, data and ports of its own, started and stopped here.

Two variants: `memory` (nothing archived, stream management on) and `archive` (mod_mam and
mod_offline on a PostgreSQL of its own, which counts as server). A system-wide ejabberd or
PostgreSQL is never touched. Needs the packages ejabberd and, for the archive, postgresql and
erlang-p1-pgsql.

    python -m benchmarks.peers.ejabberd --variant memory --seconds 3
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from benchmarks.harness.cpu import Processes
from benchmarks.harness.files import raise_file_limit

from . import postgresql
from .daemon import Daemon, folder, free_port
from .ejabberd_config import configuration
from .postgresql import Postgresql
from .xmpp import XmppWire, register

__all__ = ["Ejabberd", "Variant", "installed", "why_missing"]

Variant = Literal["memory", "archive"]

_USER = "ejabberd"
_START_TIMEOUT_S = 60.0
_SCHEMA = Path("/usr/share/ejabberd/sql/pg.sql")


def _libraries() -> Path | None:
    found = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.app"))
    return found[-1].parents[2] if found else None


def why_missing(variant: Variant) -> str:
    """What has to be installed before this variant can run; empty if nothing."""
    libraries = _libraries()
    if libraries is None or shutil.which("erl") is None:
        return "ejabberd is not installed (apt-get install ejabberd)"
    if variant == "archive":
        if not postgresql.installed():
            return "PostgreSQL is not installed (apt-get install postgresql)"
        if not any(Path("/usr/lib/erlang/lib").glob("p1_pgsql-*")):
            return "ejabberd cannot speak to PostgreSQL (apt-get install erlang-p1-pgsql)"
    return ""


def installed(variant: Variant) -> bool:
    """Whether the variant can run here."""
    return not why_missing(variant)


class Ejabberd:
    """Context manager: a running ejabberd, a `Server` of the harness."""

    def __init__(self, variant: Variant = "memory", base: Path | None = None) -> None:
        """`base` is where the temporary folder is made: choose the disk of what you compare."""
        if missing := why_missing(variant):
            raise FileNotFoundError(missing)
        self.variant: Variant = variant
        self.port = free_port()
        self.processes = Processes()
        self._base = base
        self._stack = ExitStack()
        self._accounts: set[str] = set()

    @property
    def name(self) -> str:
        """`ejabberd-memory` or `ejabberd-archive`"""
        return f"ejabberd-{self.variant}"

    def __enter__(self) -> Self:
        """Start; clients can connect when this returns."""
        raise_file_limit()
        with ExitStack() as stack:
            home = Path(tempfile.mkdtemp(prefix="peer-", dir=self._base))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            home.chmod(0o711)
            roots, sql_port = [], None
            if self.variant == "archive":
                database = stack.enter_context(Postgresql(home))
                database.database("ejabberd", _SCHEMA)
                roots.append(database.pid)
                sql_port = database.port
            daemon = self._start(home, sql_port)
            stack.callback(daemon.stop)
            roots.append(daemon.pid)
            self._wait(daemon, home)
            self.processes = Processes(roots)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop ejabberd, then PostgreSQL, and remove their files."""
        self._stack.close()

    def wire(self, users: Sequence[str]) -> XmppWire:
        """A driver for these users, who get accounts if they have none."""
        wire = XmppWire("127.0.0.1", self.port)
        fresh = [user for user in users if user not in self._accounts]
        if fresh:
            asyncio.run(register(wire, fresh))
            self._accounts.update(fresh)
        return wire

    def _start(self, home: Path, sql_port: int | None) -> Daemon:
        data = folder(home / "ejabberd", _USER)
        config = home / "ejabberd.yml"
        config.write_text(configuration(self.port, sql_port))
        libraries, erl = _libraries(), shutil.which("erl")
        assert libraries is not None and erl is not None
        command = [
            *(erl, "-noinput", "-sname", f"peer{os.getpid()}@localhost"),
            # no epmd: the node's own port is fixed, and on loopback only
            *("-start_epmd", "false", "-erl_epmd_port", str(free_port())),
            *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
            *("-setcookie", os.urandom(12).hex()),
            *("+K", "true", "+P", "250000"),
            *("-mnesia", "dir", f'"{data}"'),
            *("-s", "ejabberd"),
        ]
        return Daemon(
            _USER,
            command,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": str(data),
                "LC_ALL": "C.UTF-8",
                "ERL_LIBS": str(libraries),
                "ERL_MAX_PORTS": "32000",
                "ERL_MAX_ETS_TABLES": "1400",
                "ERL_CRASH_DUMP_BYTES": "0",
                "EJABBERD_CONFIG_PATH": str(config),
                "EJABBERD_LOG_PATH": str(data / "ejabberd.log"),
            },
            cwd=data,
            log=home / "output.log",
        )

    def _wait(self, daemon: Daemon, home: Path) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if daemon.running and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                logs = (home / "output.log", home / "ejabberd" / "ejabberd.log")
                said = "\n".join(p.read_text(errors="replace") for p in logs if p.exists())
                raise RuntimeError(f"ejabberd did not start:\n{said[-4000:]}") from None
            return


def main() -> None:
    """Run every scenario against one variant and print the figures."""
    from benchmarks.harness.measure import measure
    from benchmarks.harness.report import Report
    from benchmarks.harness.scenario import Closed, Drain, Idle, Open, Scenario, Store

    parser = argparse.ArgumentParser(description="Measure ejabberd alone, briefly.")
    parser.add_argument("--variant", choices=get_args(Variant), default="memory")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--idle", type=int, default=0, help="connections to hold (default: none)")
    parser.add_argument("--processes", type=int, default=1, help="generator processes")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if missing := why_missing(options.variant):
        raise SystemExit(missing)

    scenarios: list[Scenario] = [
        Closed(seconds=options.seconds),
        Open(seconds=options.seconds),
        Store(),
        Drain(),
    ]
    report = Report("ejabberd alone", system=f"ejabberd-{options.variant}")
    with Ejabberd(options.variant) as server:
        for _ in range(options.repeat):
            for scenario in scenarios:
                report.add(measure(server, scenario, processes=options.processes))
    if options.idle:
        for _ in range(options.repeat):
            with Ejabberd(options.variant) as server:
                report.add(measure(server, Idle(options.idle), processes=options.processes))
    report.print()
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
