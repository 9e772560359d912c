"""What a User costs, as an object in a UserHost and as a Ray actor of its own.

    .venv/bin/python benchmarks/actors.py [--users 100000] [--dedicated 12] [--json FILE]

The User of a sharded host is measured in this process: bytes of resident memory each, idle
(known devices, nobody connected) and connected, and the time to activate one from its store.
The dedicated one is a real `HostActor` of its own: PSS, and the time until it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.cpu import Processes
from benchmarks.harness.report import Report, Result
from raychat.cluster.placement import Layout
from raychat.cluster.token import make_secret, use_ray_token
from raychat.config import Placement
from raychat.ids import PRIMARY, AccountId
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import Attach, PutDevice, Session
from raychat.users.user import User

TOKEN = sha256(b"token").digest()


def account(number: int) -> AccountId:
    return AccountId(sha256(b"%d" % number).digest()[:16])


def resident() -> int:
    """Bytes of resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def sharded(folder: Path, count: int) -> Result:
    store = SqliteStore(folder / "host-0.db", "host-0")
    accounts = [account(number) for number in range(count)]
    for at in range(0, count, 1_000):
        writes = Writes()
        writes.devices = [PutDevice(name, PRIMARY, 1, TOKEN) for name in accounts[at : at + 1_000]]
        await store.commit(writes)
        await asyncio.sleep(0.01)  # the store writes its log back beside
    users: list[User] = []
    gc.collect()
    gc.set_threshold(50_000, 20, 50)  # as a host does
    before = resident()
    started = time.perf_counter()
    for at in range(0, count, 500):
        users += [User(record, 0) for record in await store.load(accounts[at : at + 500])]
    seconds = time.perf_counter() - started
    gc.collect()
    idle = resident() - before
    link = object()
    for number, user in enumerate(users):
        session = Session(link, number)
        user.handle(Attach(user.account, session, PRIMARY, TOKEN, 0, (), 0, (), ()), 0)  # type: ignore[arg-type]
    gc.collect()
    connected = resident() - before
    await store.close()
    figures = {
        "idle_kib": idle / count / 1024,
        "connected_kib": connected / count / 1024,
        "activation_us": seconds / count * 1e6,
    }
    return Result("user-in-host", "actor", figures)


def dedicated(folder: Path, count: int) -> Result:
    data = folder / "dedicated"
    use_ray_token(data)
    make_secret(data / "cluster.secret", os.urandom(32))
    import ray

    from raychat.cluster.actors import NAMESPACE, Place, host_actor, resource

    layout = Layout(Placement.DEDICATED, 1)
    sockets = folder / "s"
    sockets.mkdir()
    ray.init(
        address="local",
        namespace=NAMESPACE,
        resources={resource("host"): count},
        object_store_memory=80 * 1024 * 1024,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    try:
        place = Place(data, sockets, layout, "warning")
        started = time.perf_counter()
        actors = [host_actor(layout.host_of(account(n)), place) for n in range(count)]
        pids = ray.get([actor.ready.remote() for actor in actors], timeout=300)
        seconds = time.perf_counter() - started
        time.sleep(2)
        kib = sum(Processes(roots=[pid]).pss_kib() for pid in pids) / count
    finally:
        ray.shutdown()
    return Result(
        "user-dedicated", "actor", {"idle_kib": kib, "activation_us": seconds / count * 1e6}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dedicated", type=int, default=12)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    report = Report("actors")
    with tempfile.TemporaryDirectory(prefix="raychat-bench-") as folder:
        report.add(asyncio.run(sharded(Path(folder), options.users)))
        report.add(dedicated(Path(folder), options.dedicated))
    report.print()
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
