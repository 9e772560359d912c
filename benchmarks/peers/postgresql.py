"""A PostgreSQL cluster of our own: made in a given folder, gone with it.

Durable as installed: fsync and synchronous_commit are on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from .daemon import Daemon, folder, free_port, run_as

__all__ = ["Postgresql", "installed"]

_USER = "postgres"
_START_TIMEOUT_S = 30.0


def _programs() -> Path | None:
    found = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")
        if (path.parent / "postgres").exists()
    ]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def installed() -> bool:
    """Whether Debian's PostgreSQL server is there."""
    return _programs() is not None


class Postgresql:
    """Context manager: initdb, start on a free port, stop."""

    def __init__(self, base: Path) -> None:
        """`base` is a folder that the user postgres may pass through."""
        programs = _programs()
        if programs is None:
            raise FileNotFoundError("the server of PostgreSQL is not installed")
        self._programs = programs
        self._base = base
        self._daemon: Daemon | None = None
        self.port = free_port()

    @property
    def pid(self) -> int:
        """The postmaster, whose children are the back ends."""
        assert self._daemon is not None
        return self._daemon.pid

    def __enter__(self) -> Self:
        """Make and start the cluster; it answers when this returns."""
        home = folder(self._base / "postgresql", _USER)
        data = home / "data"
        self._run("initdb", "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", cwd=home)
        self._daemon = Daemon(
            _USER,
            [
                str(self._programs / "postgres"),
                *("-D", str(data), "-k", str(home), "-h", "127.0.0.1", "-p", str(self.port)),
            ],
            end_with=signal.SIGINT,  # "fast": does not wait for clients to leave
            env=_environment(),
            cwd=home,
            log=self._base / "postgresql.log",
        )
        self._home = home
        try:
            self._wait()
        except BaseException:
            self._daemon.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the cluster; its files are the caller's to remove."""
        if self._daemon is not None:
            self._daemon.stop()

    def database(self, name: str, schema: Path) -> None:
        """Create a database and load a schema file into it."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", _USER)
        self._run("createdb", *where, name, cwd=self._home)
        self._run(
            "psql", *where, "-q", "-v", "ON_ERROR_STOP=1", "-d", name, "-f", str(schema),
            cwd=self._home,
        )  # fmt: skip

    def _wait(self) -> None:
        assert self._daemon is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        probe = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(probe, check=False).returncode != 0:
            if not self._daemon.running or time.monotonic() > deadline:
                log = (self._base / "postgresql.log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log[-2000:]}")
            time.sleep(0.1)

    def _run(self, program: str, *arguments: str, cwd: Path) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            run_as(_USER, command),
            check=False,
            capture_output=True,
            text=True,
            env=_environment(),
            cwd=cwd,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
