"""Starting and stopping a server: `raychat up`, `status` and `down`, as functions.

`Server` starts Ray in this process's name, the actors in it, and stops them in the order that
loses nothing: gateways send the devices away, hosts finish their turns, then Ray goes. Killing
the process instead loses nothing that was acknowledged either.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from ray.actor import ActorHandle

from raychat.cluster import actors
from raychat.cluster.actors import Place
from raychat.cluster.placement import Layout
from raychat.cluster.token import make_secret
from raychat.config import Placement, Settings
from raychat.database import FileLock
from raychat.errors import NotFound, StoreError, StoreInUse
from raychat.store.move import settle

OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
"""Ray's least. Nothing of ours goes through the object store."""

SLOTS: Final = 10_000
START_SECONDS: Final = 120
DRAIN_SECONDS: Final = 15
SOCKET_PATH_BYTES: Final = 100
"""A Unix socket's path is at most 107 bytes."""

Progress = Callable[[str], None]

MakeGateway = Callable[[str, Place, Settings, int], ActorHandle[Any]]
"""Makes a gateway actor of that name, at that port. The edge is above this room, so it is given."""


class Address(NamedTuple):
    """Where a running server can be reached."""

    pid: int
    gateway: str
    dashboard: str | None
    placement: str
    hosts: int
    gateways: int
    started: float


def sockets_folder(data: Path) -> Path:
    """Where the links' Unix sockets lie: in the data directory, or, if its path is too long for
    a socket, in a folder of the system's temporary one that is named after it."""
    folder = data / "run"
    longest = folder / f"user-{'0' * 36}.sock"
    if len(str(longest).encode()) <= SOCKET_PATH_BYTES:
        return folder
    digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"raychat-{os.getuid()}-{digest}"


class Server:
    """One server on this machine, from `start` to `stop`."""

    def __init__(self, settings: Settings, progress: Progress, make_gateway: MakeGateway) -> None:
        self._settings = settings
        self._make_gateway = make_gateway
        self._progress = progress
        self._gateways: list[Any] = []
        self._hosts: list[str] = []
        self._accounts: Any = None
        self._lock: FileLock | None = None
        self._reserved: socket.socket | None = None

    # -- start -----------------------------------------------------------------------------

    def start(self) -> Address:
        """Raises StoreInUse if this data directory is being served already, StoreError."""
        settings = self._settings
        data = settings.data.expanduser().resolve()
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = FileLock(data / "server.lock")
        sockets = sockets_folder(data)
        sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_secret(data / "cluster.secret", secrets.token_bytes(32))
        settings.providers.keep(data)
        layout = Layout(settings.placement, settings.hosts)
        self._settle(data, layout)
        place = Place(data, sockets, layout, settings.log_level)
        port = self._reserve_port()
        self._progress("starting Ray")
        dashboard = self._start_ray()
        self._progress("starting hosts")
        self._accounts = actors.accounts_actor(place)
        hosts = [actors.host_actor(name, place) for name in layout.fixed_hosts()]
        _wait([self._accounts, *hosts])
        self._hosts = layout.fixed_hosts()
        self._progress("starting gateways")
        self._gateways = [
            self._make_gateway(f"gateway-{number}", place, settings, port)
            for number in range(settings.gateways)
        ]
        _wait(self._gateways)
        scheme = "https" if settings.tls_cert else "http"
        address = Address(
            os.getpid(),
            f"{scheme}://{settings.host}:{port}",
            dashboard,
            settings.placement.value,
            settings.hosts,
            settings.gateways,
            time.time(),
        )
        state = data / "run" / "server.json"
        state.parent.mkdir(exist_ok=True, mode=0o700)
        state.write_text(json.dumps(address._asdict()))
        self._state = state
        return address

    def _settle(self, data: Path, layout: Layout) -> None:
        """Bring the stores into the shape of the layout."""
        written = data / "layout.json"
        wanted = {"placement": layout.placement.value, "hosts": layout.hosts}
        hosts = data / "hosts"
        hosts.mkdir(exist_ok=True, mode=0o700)
        if not written.exists() or json.loads(written.read_text()) != wanted:
            self._progress("arranging the stores")
            settle(hosts, layout.host_of)
            written.write_text(json.dumps(wanted))

    def _reserve_port(self) -> int:
        """Hold the port (a free one for 0) while the gateways come and go."""
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            reserved.bind((self._settings.host, self._settings.port))
        except OSError as error:
            raise StoreError(
                f"Port {self._settings.port} cannot be used: {error.strerror}. Choose another"
                " with --port."
            ) from error
        self._reserved = reserved
        return int(reserved.getsockname()[1])

    def _start_ray(self) -> str | None:
        settings = self._settings
        # Our processes are the service, not batch work to be nice about.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "120")
        context = ray.init(
            address="local",
            namespace=actors.NAMESPACE,
            resources={actors.resource(role): SLOTS for role in actors.ROLES},
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=settings.dashboard,
            dashboard_host="127.0.0.1",
            dashboard_port=settings.dashboard_port or None,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(settings.ray_temp_dir) if settings.ray_temp_dir else None,
            _metrics_export_port=settings.metrics_port or None,
        )
        url = context.dashboard_url
        return f"http://{url}" if settings.dashboard and url else None

    # -- stop ------------------------------------------------------------------------------

    def stop(self, progress: Progress) -> None:
        """Drain and end. Bounded in time; what is not finished then is in the stores."""
        progress("sending devices away")
        self._drain(self._gateways)
        progress("finishing turns")
        self._drain([*self._host_actors(), self._accounts])
        progress("stopping Ray")
        ray.shutdown()
        if self._reserved is not None:
            self._reserved.close()
        self._state.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()

    def _host_actors(self) -> list[Any]:
        named = ray.util.list_named_actors(all_namespaces=True)
        names = [entry["name"] for entry in named if entry["namespace"] == actors.NAMESPACE]
        found = []
        for name in names:
            if name.startswith(("host-", "user-")):
                try:
                    found.append(ray.get_actor(name, namespace=actors.NAMESPACE))
                except ValueError:
                    continue
        return found

    @staticmethod
    def _drain(handles: list[Any]) -> None:
        if handles:
            drains = [handle.drain.remote() for handle in handles]
            ray.wait(drains, num_returns=len(drains), timeout=DRAIN_SECONDS)
        for handle in handles:
            ray.kill(handle, no_restart=True)


def _wait(handles: list[Any]) -> None:
    try:
        ray.get([handle.ready.remote() for handle in handles], timeout=START_SECONDS)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, StoreError) else StoreError(str(error)) from error


# -- a server that somebody else runs --------------------------------------------------------


def running(data: Path) -> Address:
    """The server of a data directory. Raises NotFound if none runs."""
    data = data.expanduser()
    try:
        fields = json.loads((data / "run" / "server.json").read_text())
        address = Address(**fields)
        FileLock(data / "server.lock").release()
    except StoreInUse:
        return address
    except (OSError, ValueError, TypeError):
        pass
    raise NotFound(f"No server is running on {data}; start one with `raychat up`.")


def down(data: Path, timeout: float = 60) -> None:
    """Ask a running server to stop, and wait until it has. Raises NotFound, Timeout."""
    address = running(data)
    os.kill(address.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            running(data)
        except NotFound:
            return
        time.sleep(0.1)
    raise StoreError(f"The server (process {address.pid}) did not stop within {timeout:.0f} s.")


__all__ = ["Address", "Placement", "Server", "down", "running"]
