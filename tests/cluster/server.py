"""`raychat up` as a subprocess, and the processes under it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_SECONDS = 90
STOP_SECONDS = 60


class Server:
    """A server with a data directory of its own, which can be started again and again.

    Everything it starts is found under its process and ends with `close`.
    """

    def __init__(self) -> None:
        # Not pytest's folder: the paths of Ray's sockets must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="raychat-"))
        self.data = self.folder / "data"
        self.ray = self.folder / "ray"
        self._process: subprocess.Popen[str] | None = None
        self._known: set[tuple[int, str]] = set()
        self.address: dict[str, Any] = {}
        self.options: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        # Figures reach Ray's endpoint twice a second, so that nobody waits for them; and the
        # budgets of registration have tests of their own.
        return {
            "RAYCHAT_BUDGET_SCALE": "1e6",
            **os.environ,
            "RAYCHAT_RAY_TEMP_DIR": str(self.ray),
            "RAY_metrics_report_interval_ms": "500",
        }

    @property
    def url(self) -> str:
        return str(self.address["gateway"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str, dashboard: bool = False, port: int = 0) -> dict[str, Any]:
        """Run it with options of `raychat up`; returns what it says about itself."""
        self.options = options
        command = [sys.executable, "-m", "raychat.main", "up", "--json", f"--data={self.data}"]
        command += [f"--port={port}", *options]
        command.append("--dashboard-port=0" if dashboard else "--no-dashboard")
        with (self.folder / "up.log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise AssertionError((self.folder / "up.log").read_text())
        self.address = json.loads(line)
        return self.address

    def raychat(self, *command: str) -> subprocess.CompletedProcess[str]:
        """One `raychat COMMAND --data=…` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "raychat.main", *command, f"--data={self.data}"],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=STOP_SECONDS,
            check=False,
        )

    def stop(self) -> int:
        """Ctrl-C; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(STOP_SECONDS)
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        """kill -9 of it and of everything under it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.processes()
            self._process.kill()
        for pid, command in self._known:
            if _command(pid) == command:  # and not somebody else who has got its number
                _signal(pid, signal.SIGKILL)
        self.wait()
        self._known.clear()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- processes -------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Process ids and command lines of all that runs under it."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                stat = _read(entry / "stat")
                if stat:
                    parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        under = {self.pid}
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in under} - under
            under |= more
            grown = bool(more)
        found = {pid: _command(pid) for pid in under - {self.pid}}
        self._known |= set(found.items())
        return found

    def actors(self, role: str) -> list[int]:
        """Processes of the actors of a role: Host, Gateway, Accounts."""
        return sorted(
            pid
            for pid, command in self.processes().items()
            if command.startswith(f"ray::{role}Actor")
        )

    def wait_for_actors(self, role: str, count: int, without: set[int]) -> None:
        """Until Ray has put new actors in the place of dead ones."""
        deadline = time.monotonic() + START_SECONDS
        while len(set(self.actors(role)) - without) < count:
            assert time.monotonic() < deadline, f"{role} actors are not back:\n{self._account()}"
            time.sleep(0.05)

    def _account(self) -> str:
        """What a person would look at when something does not come back."""
        lines = [f"{pid} {command[:80]}" for pid, command in sorted(self.processes().items())]
        for name, text in self.logs():
            if name.startswith(("gcs_server", "raylet")) or "Traceback" in text:
                lines += ["", name, *text.splitlines()[-40:]]
        return "\n".join(lines)

    def wait_for_log(self, words: str) -> None:
        """Until an actor has logged a line with these words."""
        deadline = time.monotonic() + START_SECONDS
        while not any(words in text for name, text in self.logs() if name.startswith("worker-")):
            assert time.monotonic() < deadline, f"nobody has logged {words}"
            time.sleep(0.1)

    def logs(self) -> Iterator[tuple[str, str]]:
        """Names and content of Ray's log files of this server."""
        for path in self.ray.glob("session_2*/logs/**/*"):
            if path.is_file():
                yield path.name, path.read_text(errors="replace")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
