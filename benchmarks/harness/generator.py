"""Generator processes: clean interpreters that make the load, and the parent's hold on them.

The talk between the two, over a socket pair: a job, `ready` back; the instants between which
to run, a `Tally` back while the connections stay up; then the word to close.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import process_time
from types import TracebackType
from typing import Any, Self

from .files import raise_file_limit
from .load import load_for
from .scenario import Scenario, Tally
from .wire import Wire

__all__ = ["Generators", "LoadError"]

_ROOT = Path(__file__).parents[2]
"""The folder that holds the package `benchmarks`."""

_CHILD = f"import sys; from {__name__} import main; main(int(sys.argv[1]))"


class LoadError(Exception):
    """A generator process failed; the message is its traceback."""


@dataclass(frozen=True, slots=True)
class _Job:
    scenario: Scenario
    wire: Wire
    process: int
    processes: int


class Generators:
    """The generator processes of one scenario, as a context manager."""

    def __init__(self, scenario: Scenario, wire: Wire, processes: int = 1) -> None:
        self._jobs = [_Job(scenario, wire, n, processes) for n in range(processes)]
        self._children: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection] = []

    def __enter__(self) -> Self:
        """Start the processes; returns when all are connected."""
        raise_file_limit()
        path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH")) if p)
        try:
            for job in self._jobs:
                ours, theirs = socket.socketpair()
                with theirs:
                    self._children.append(
                        subprocess.Popen(
                            [sys.executable, "-c", _CHILD, str(theirs.fileno())],
                            pass_fds=[theirs.fileno()],
                            env=os.environ | {"PYTHONPATH": path},
                        )
                    )
                pipe = Connection(ours.detach())
                self._pipes.append(pipe)
                pipe.send(job)
            self._answers(timeout=120)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections and end the processes."""
        if error is None:
            for pipe in self._pipes:
                pipe.send("close")
            for child in self._children:
                child.wait(30)
        self._kill()

    def begin(self, start: float, end: float) -> None:
        """Let the load run; timed scenarios count between these instants (perf_counter)."""
        for pipe in self._pipes:
            pipe.send((start, end))

    def tallies(self, timeout: float) -> list[Tally]:
        """What the processes counted; waits for them, at most `timeout` seconds."""
        return self._answers(timeout)

    def pids(self) -> Sequence[int]:
        """The processes' ids, to be left out where the server is measured by a predicate."""
        return [child.pid for child in self._children]

    def _answers(self, timeout: float) -> list[Any]:
        answers = []
        for pipe in self._pipes:
            if not pipe.poll(timeout):
                raise LoadError(f"no answer from a generator within {timeout:.0f} s")
            try:
                answer = pipe.recv()
            except EOFError:
                raise LoadError("a generator process ended") from None
            if isinstance(answer, LoadError):
                raise answer
            answers.append(answer)
        return answers

    def _kill(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for pipe in self._pipes:
            pipe.close()


async def _serve(pipe: Connection, job: _Job) -> None:
    load = load_for(job.scenario, job.wire, job.process, job.processes)
    loop = asyncio.get_running_loop()
    await load.connect()
    pipe.send("ready")
    start, end = await loop.run_in_executor(None, pipe.recv)
    gc.collect()
    gc.freeze()
    gc.disable()
    before = process_time()
    close = loop.run_in_executor(None, pipe.recv)
    run = asyncio.ensure_future(load.run(start, end))
    await asyncio.wait({run, close}, return_when=asyncio.FIRST_COMPLETED)
    if close.done():
        raise EOFError  # nobody waits for the tally: the parent is gone
    await run
    load.tally.load_cpu_s = process_time() - before
    pipe.send(load.tally)
    await close
    load.close()
    await asyncio.sleep(0.05)


def main(descriptor: int) -> None:
    """A generator process: one job, then the end."""
    import uvloop

    raise_file_limit()
    pipe = Connection(descriptor)
    job = pipe.recv()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(pipe, job))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone
    except Exception:
        pipe.send(LoadError(traceback.format_exc()))
