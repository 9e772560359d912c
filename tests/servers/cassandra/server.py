"""A real Apache Cassandra cluster on this machine, for tests and for `make cassandra`.

The server is the jar `org.apache.cassandra:cassandra-all` of Maven Central with all it needs
(pom.xml), fetched once into `$XDG_CACHE_HOME/raychat/cassandra-VERSION` and run by the Java that
is here, with a configuration of ours (cassandra.yaml). It needs Java 11 or 17 to run, and Maven
once to fetch: `apt-get install default-jdk-headless maven` on Debian 12.

    python -m tests.servers.cassandra.server start [--nodes 3]    # `make cassandra`
    python -m tests.servers.cassandra.server stop                 # `make cassandra-stop`

Several nodes have addresses 127.0.0.1, 127.0.0.2, ... and the same ports; Linux has all of
127.0.0.0/8 on its loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
JAVA_VERSIONS = (11, 17)
HEAP = "512m"
PORT = 9042
"""Where `make cassandra` serves clients; tests take any free port."""

START_SECONDS = 180
STOP_SECONDS = 60
FETCH_SECONDS = 900

ADD_EXPORTS = [
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.unsupported/sun.misc",
]
ADD_OPENS = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.compiler/com.sun.tools.javac",
    "jdk.management/com.sun.management.internal",
]
"""What Cassandra reaches into of the JDK since Java 9 (its conf/jvm17-server.options)."""


class CassandraMissing(Exception):
    """This machine has no Cassandra and no way to get one; says what to install."""


class CassandraFailed(Exception):
    """A server that did not start; says what it logged last."""


def version() -> str:
    found = re.search(r"<cassandra.version>(.*)<", (HERE / "pom.xml").read_text())
    assert found is not None
    return found[1]


@functools.cache
def java() -> str:
    """The program. Raises CassandraMissing."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which(f"{home}/bin/java" if home else "java")
    if program is None:
        raise CassandraMissing("no Java; Debian 12: apt-get install default-jdk-headless")
    asked = [program, "-version"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=30).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) not in JAVA_VERSIONS:
        raise CassandraMissing(f"Cassandra needs Java 11 or 17 (JAVA_HOME): {told[:60]}")
    return program


@functools.cache
def jars() -> Path:
    """The folder with the server's jars, fetched if it is not there. Raises CassandraMissing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "raychat" / f"cassandra-{version()}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise CassandraMissing(
            f"Cassandra is not in {folder} and there is no Maven to fetch it;"
            " Debian: apt-get install maven"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as fetching:
        command = [maven, "-B", "-q", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command.append(f"-DoutputDirectory={fetching}/jars")
        fetched = subprocess.run(
            command,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FETCH_SECONDS,
        )
        if fetched.returncode:
            raise CassandraMissing(f"Maven could not fetch Cassandra: {fetched.stdout[-2_000:]}")
        # Whoever else fetched it meanwhile has the same.
        with contextlib.suppress(OSError):
            os.rename(f"{fetching}/jars", folder)
    return folder


class Node:
    """One server with a folder of its own, which can be started again and again."""

    def __init__(self, folder: Path, address: str, settings: dict[str, object]) -> None:
        self.address = address
        self.folder = folder
        self.log = folder / "system.log"
        self.pid_file = folder / "pid"
        self._settings = settings
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int:
        return int(str(self._settings["port"]))

    def launch(self, heap: str = HEAP, fast: bool = False, outlive: bool = False) -> None:
        """Start the process. Unless it may `outlive` this one, it ends with it. It starts in half
        the time if it need not be `fast` later: with Java's quick compiler only."""
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        template = string.Template((HERE / "cassandra.yaml").read_text())
        (folder / "cassandra.yaml").write_text(template.substitute(self._settings, folder=folder))
        command = [java(), *_java_options(folder, heap)]
        if not fast:
            command.append("-XX:TieredStopAtLevel=1")
        command.append("org.apache.cassandra.service.CassandraDaemon")
        if not outlive and (setpriv := shutil.which("setpriv")):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        self.pid_file.write_text(str(self.pid))

    def wait(self, peers: int, seconds: float = START_SECONDS) -> None:
        """Until it serves clients and sees `peers` other nodes. Raises CassandraFailed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.alive:
            if _listens(self.address, self.port) and self._peers_up() >= peers:
                return
            time.sleep(0.1)
        raise CassandraFailed(f"{self.address} did not start:\n{self.log.read_text()[-4_000:]}")

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _peers_up(self) -> int:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            said = re.findall(rb"Gossiper InetAddress (\S+) is now (UP|DOWN)", log.read())
        return sum(state == b"UP" for state in dict(said).values())

    def start(self, heap: str = HEAP, fast: bool = False) -> None:
        self.launch(heap, fast)
        self.wait(0)

    def stop(self) -> None:
        """As an operator does: it writes its memtables and leaves."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As kill -9 does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def memory(self) -> int:
        """Bytes it has in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class CassandraServer:
    """A cluster of one or more nodes under one folder; what they keep survives `stop` and `kill`.

    `sync` is commitlog_sync: "batch" (an fsync begins at once), or "group" (at most one each
    `window`).
    """

    def __init__(
        self, folder: Path, nodes: int = 1, port: int = 0, sync: str = "batch", window: str = "1ms"
    ) -> None:
        addresses = [f"127.0.0.{number}" for number in range(1, nodes + 1)]
        settings: dict[str, object] = {
            "port": port or _free_port(addresses),
            "storage_port": _free_port(addresses),
            "seeds": ",".join(addresses),
            "sync": sync,
            "sync_options": f"commitlog_sync_group_window: {window}" if sync == "group" else "",
        }
        ring = 2**64 // nodes
        self.nodes = [
            Node(
                folder / address,
                address,
                {**settings, "address": address, "token": number * ring - 2**63},
            )
            for number, address in enumerate(addresses)
        ]

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def port(self) -> int:
        return self.nodes[0].port

    @property
    def address(self) -> tuple[str, int]:
        """Where a client finds the first node; it learns of the others there."""
        return self.nodes[0].address, self.port

    def start(self, heap: str = HEAP, fast: bool = False, outlive: bool = False) -> None:
        """Returns when each node serves clients and sees all others. Raises CassandraMissing,
        CassandraFailed."""
        java(), jars()
        try:
            for node in self.nodes:
                node.launch(heap, fast, outlive)
            for node in self.nodes:
                node.wait(0)
            for node in self.nodes:
                node.wait(len(self.nodes) - 1)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def _java_options(folder: Path, heap: str) -> Iterator[str]:
    yield from (f"-Xms{heap}", f"-Xmx{heap}", "-Xss512k", "-XX:MaxDirectMemorySize=512m")
    yield from ("-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", "-XX:+PerfDisableSharedMem")
    yield f"-XX:ErrorFile={folder}/hs_err.log"
    yield "-Djdk.attach.allowAttachSelf=true"
    yield "-Djava.net.preferIPv4Stack=true"
    yield f"-Djava.io.tmpdir={folder}"
    yield "-Dio.netty.tryReflectionSetAccessible=true"
    for package in ADD_EXPORTS:
        yield f"--add-exports={package}=ALL-UNNAMED"
    for package in ADD_OPENS:
        yield f"--add-opens={package}=ALL-UNNAMED"
    (agent,) = jars().glob("jamm-*.jar")
    yield f"-javaagent:{agent}"
    yield f"-Dlogback.configurationFile={HERE}/logback.xml"
    yield f"-Dcassandra.config=file://{folder}/cassandra.yaml"
    yield f"-Dcassandra.storagedir={folder}"
    yield f"-Dcassandra.logdir={folder}"
    yield "-Dcassandra-foreground=yes"
    # On one machine nobody joins late: the rounds of waiting for that are left out.
    yield "-Dcassandra.skip_wait_for_gossip_to_settle=0"
    yield "-Dcassandra.ring_delay_ms=100"
    yield "-Dcassandra.shutdown_announce_in_ms=100"
    yield "-Dcassandra.superuser_setup_delay_ms=0"
    yield from ("-cp", f"{jars()}/*")


def _free_port(addresses: Sequence[str]) -> int:
    for _ in range(100):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            port = 0
            for address in addresses:
                bound = held.enter_context(socket.socket())
                bound.bind((address, port))
                port = bound.getsockname()[1]
            return port
    raise CassandraFailed("there is no port that is free on all addresses")


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="A Cassandra cluster on this machine")
    parser.add_argument("what", choices=("start", "stop"))
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--heap", default="1g")
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    parser.add_argument("--folder", type=Path, default=state / "raychat" / "cassandra")
    options = parser.parse_args()
    if options.what == "stop":
        return _stop_all(options.folder)
    server = CassandraServer(options.folder, options.nodes, PORT)
    if _listens(*server.address):
        print(f"Port {PORT} is taken: `make cassandra-stop` ends a server of ours.")
        return 1
    try:
        server.start(options.heap, fast=True, outlive=True)
    except (CassandraMissing, CassandraFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Cassandra {version()} serves {', '.join(server.addresses)}, port {PORT}.")
    return 0


def _stop_all(folder: Path) -> int:
    running = []
    for pid_file in folder.glob("*/pid"):
        pid = int(pid_file.read_text())
        with contextlib.suppress(OSError):
            # A process of that number may be another one by now.
            if b"CassandraDaemon" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
                running.append(pid)
    deadline = time.monotonic() + STOP_SECONDS
    while running and time.monotonic() < deadline:
        time.sleep(0.1)
        running = [pid for pid in running if Path(f"/proc/{pid}").exists()]
    for pid in running:
        print(f"Process {pid} has not ended.", file=sys.stderr)
    return 1 if running else 0


if __name__ == "__main__":
    sys.exit(main())
