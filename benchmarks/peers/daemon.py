"""Starting a peer's server process as a user of its own, and ending it by its pid.

Where the benchmark runs as root, servers that must not (PostgreSQL) or should not (ejabberd)
run as root get their package's user; otherwise they run as the caller. `setpriv` changes the
user without touching the limit on open files, and has the kernel end the server when the
benchmark dies.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Daemon", "folder", "free_port", "run_as"]


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_as(user: str, command: Sequence[str], end_with: signal.Signals | None = None) -> list[str]:
    """The command, to run as `user` if we are root, and to end when we do."""
    change = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if os.geteuid() == 0 else []
    death = [f"--pdeathsig={end_with.name.removeprefix('SIG')}"] if end_with else []
    if not change and not death:
        return list(command)
    return [shutil.which("setpriv") or "setpriv", *change, *death, "--", *command]


def folder(path: Path, user: str) -> Path:
    """Make a folder that belongs to `user`."""
    path.mkdir(mode=0o700)
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


class Daemon:
    """A server process in the foreground of its own session."""

    def __init__(
        self,
        user: str,
        command: Sequence[str],
        *,
        end_with: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> None:
        self._end_with = end_with
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                run_as(user, command, end_with),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server has not ended."""
        return self._process.poll() is None

    def stop(self, patience: float = 15.0) -> None:
        """Ask the server to end; kill it after `patience` seconds."""
        if self.running:
            self._process.send_signal(self._end_with)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
