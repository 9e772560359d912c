"""CPU time and memory of a set of processes and all their descendants, from /proc.

CPU seconds are user plus system, in steps of 10 ms. A process that ends during a phase is
counted through its parent's `cutime`/`cstime` once it is waited for; where a parent has itself
reaped by the kernel (SIGCHLD ignored, as the raylet does), the last value seen counts, so call
`sample` now and then in phases in which processes come and go.

Memory is PSS: pages shared by n processes count 1/n in each, so sums over processes are right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuMeter", "Process", "Processes"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat, and the owner; times in clock ticks."""

    pid: int
    parent: int
    started: int
    name: str
    uid: int
    own: int
    """user + system time of the process and its threads"""
    reaped: int
    """the same of all descendants that ended and were waited for"""

    @property
    def key(self) -> tuple[int, int]:
        """Tells a process from a later one that got the same pid."""
        return self.pid, self.started

    @property
    def command(self) -> str:
        """The command line, empty when the process is gone."""
        try:
            return (_PROC / str(self.pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            return ""


def _snapshot() -> dict[int, Process]:
    table = {}
    for entry in os.scandir(_PROC):
        if not entry.name.isdigit():
            continue
        try:
            stat = (_PROC / entry.name / "stat").read_text(errors="replace")
            uid = entry.stat().st_uid
        except OSError:
            continue
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        field = stat[stat.rindex(")") + 2 :].split()
        utime, stime, cutime, cstime = map(int, field[11:15])
        pid = int(entry.name)
        table[pid] = Process(
            pid, int(field[1]), int(field[19]), name, uid, utime + stime, cutime + cstime
        )
    return table


class Processes:
    """The trees under `roots`, and under every process that `match` picks, without `exclude`.

    A process once seen stays a member even when its parent ends and init adopts it.
    """

    def __init__(
        self,
        roots: Iterable[int] = (),
        *,
        match: Callable[[Process], bool] | None = None,
        exclude: Iterable[int] = (),
    ) -> None:
        self._roots = set(roots)
        self._match = match
        self._exclude = frozenset({os.getpid(), *exclude})
        self._seen: set[tuple[int, int]] = set()

    def __or__(self, other: Processes) -> Processes:
        """Both sets as one."""
        both = Processes(self._roots | other._roots, exclude=(self._exclude | other._exclude))
        matches = [m for m in (self._match, other._match) if m is not None]
        if matches:
            both._match = lambda process: any(match(process) for match in matches)
        return both

    def members(self) -> list[Process]:
        """All that exist now."""
        table = _snapshot()
        children: dict[int, list[Process]] = {}
        for process in table.values():
            children.setdefault(process.parent, []).append(process)
        match = self._match
        queue = [
            process
            for process in table.values()
            if process.pid in self._roots
            or process.key in self._seen
            or (match is not None and match(process))
        ]
        members: dict[int, Process] = {}
        while queue:
            process = queue.pop()
            if process.pid in members or process.pid in self._exclude:
                continue
            members[process.pid] = process
            queue += children.get(process.pid, ())
        self._seen.update(process.key for process in members.values())
        return list(members.values())

    def pss_kib(self) -> int:
        """Proportional set size of all members together, KiB."""
        total = 0
        for process in self.members():
            try:
                rollup = (_PROC / str(process.pid) / "smaps_rollup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            for line in rollup.splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
                    break
        return total


class CpuMeter:
    """CPU seconds that a set of processes uses from the making of the meter on."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._before = {process.key: process for process in processes.members()}
        self._last = dict(self._before)

    def sample(self) -> None:
        """Note the present values, so that little is lost of processes that end unseen."""
        self._last.update((process.key, process) for process in self._processes.members())

    def seconds(self) -> float:
        """CPU seconds since the start: living members, and those that came or went."""
        living = {process.key: process for process in self._processes.members()}
        self._last.update(living)
        ticks = reaped = 0
        for key, process in living.items():
            before = self._before.get(key)
            ticks += process.own - (before.own if before else 0)
            reaped += process.reaped - (before.reaped if before else 0)
        gone_before = gone_seen = 0
        for key, last in self._last.items():
            if key not in living:
                before = self._before.get(key)
                gone_before += before.own + before.reaped if before else 0
                gone_seen += last.own + last.reaped
        ticks += max(reaped - gone_before, gone_seen - gone_before, 0)
        return ticks / _TICKS_PER_S
