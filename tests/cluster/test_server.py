"""`raychat up` from outside: its commands, the SDK's devices, its metrics, its logs, its data.

One server lives through this module: it is stopped and started again with other layouts, and
keeps everything. The tests are its life, in order.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from raychat.client import Client, Message, State
from raychat.client.events import MessageReceived
from raychat.client.http import Registration
from raychat.database import FileLock
from raychat.errors import BadCode, StoreInUse
from raychat.ids import account_text
from raychat.observe import metrics
from tests.cluster.server import Server
from tests.stack import until

pytestmark = pytest.mark.cluster

SECONDS = 30.0
NUMBERS = {"ann": "+15550001111", "bob": "+15550002222"}
SECRET_TEXT = "the blue door at nine"
RARE = {
    "raychat_expired_total",
    "raychat_failed_turns_total",
    "raychat_passivated_total",
    "raychat_refused_total",
}
"""Counters of what does not happen here. Ray shows a counter from its first count on."""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def client(server: Server, profile: str) -> Client:
    return Client(profile, home=server.folder / "home", server=server.url)


async def register(server: Server, profile: str) -> None:
    """With the code that comes to the console."""
    console = server.data / "console.txt"
    number = NUMBERS[profile]

    async def code(_registration: Registration, wrong: BadCode | None) -> str:
        assert wrong is None
        lines = [line for line in console.read_text().splitlines() if number in line]
        return lines[-1].rpartition(" ")[2]

    home = server.folder / "home"
    await Client.register(number, code=code, server=server.url, profile=profile, home=home)


async def received(reader: Client, count: int) -> list[str]:
    texts: list[str] = []
    async with asyncio.timeout(SECONDS):
        async for event in reader.events():
            if isinstance(event, MessageReceived):
                texts.append(event.message.text or "")
                if len(texts) == count:
                    break
    return texts


async def sent(writer: Client, to: str, *texts: str) -> list[Message]:
    """Written, and each with its ✓."""
    messages = [await writer.send(NUMBERS[to], text) for text in texts]
    for message in messages:
        await message.sent(SECONDS)
    return messages


# -- one host --------------------------------------------------------------------------------


async def test_two_register_and_write_to_each_other(server: Server) -> None:
    options = ("--hosts=1", "--gateways=2", f"--metrics-port={free_port()}")
    await asyncio.to_thread(server.start, *options, dashboard=True)
    for profile in NUMBERS:
        await register(server, profile)
    async with client(server, "ann") as ann, client(server, "bob") as bob:
        first = (await sent(ann, "bob", SECRET_TEXT))[0]
        assert await received(bob, 1) == [SECRET_TEXT]
        await bob.accept(ann.account)  # till then a stranger is told nothing
        answer = (await sent(bob, "ann", f"yes, {SECRET_TEXT}"))[0]
        await answer.delivered(SECONDS)
        await bob.mark_read(ann.account)
        await first.read(SECONDS)
        for number in range(40):
            await ann.send(NUMBERS["bob"], f"{SECRET_TEXT} {number}")
        await (await ann.send(NUMBERS["bob"], "that was all")).delivered(SECONDS)


def test_a_second_server_on_the_same_data_is_refused(server: Server) -> None:
    second = server.raychat("up", "--json", "--port=0", "--no-dashboard")
    assert second.returncode == 1
    assert "[store-in-use]" in second.stderr
    assert second.stdout == ""


def test_status_says_where_it_is_and_how(server: Server) -> None:
    answer = server.raychat("status", "--json")
    assert answer.returncode == 0, answer.stderr
    status = json.loads(answer.stdout)
    assert status["status"] == "ok"
    assert (status["gateway"], status["pid"]) == (server.url, server.pid)
    assert (status["hosts"], status["hosts_connected"], status["gateways"]) == (1, 1, 2)
    plain = server.raychat("status")
    assert plain.returncode == 0
    assert server.url in plain.stdout


def scrape(server: Server) -> dict[str, Metric]:
    """What Ray's metrics endpoint of this node says of raychat, by name."""
    port = next(o for o in server.options if "metrics" in o).rpartition("=")[2]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {f.name: f for f in families if f.name.startswith("ray_raychat_")}


def total(family: Metric, suffix: str = "") -> float:
    return sum(s.value for s in family.samples if s.name.endswith(suffix))


def documented() -> set[str]:
    return set(re.findall(r"raychat_[a-z_]+[a-z]", metrics.__doc__ or ""))


async def test_the_node_shows_every_metric_that_is_documented(server: Server) -> None:
    wanted = {name.removesuffix("_total") for name in documented() - RARE}
    async with client(server, "ann") as ann:
        await sent(ann, "bob", "while you were out")

    def shown() -> bool:
        found = scrape(server)
        names = {name.removeprefix("ray_").removesuffix("_total") for name in found}
        return wanted <= names and total(found["ray_raychat_waiting"], "_total") == 1

    await until(shown, SECONDS)
    found = scrape(server)
    accepted = total(found["ray_raychat_accepted"], "_total")
    # Of what is silent, and of strangers, nobody is told.
    assert accepted >= total(found["ray_raychat_delivered"], "_total") + total(
        found["ray_raychat_inbox_envelopes"]
    )
    assert 0 < total(found["ray_raychat_users"]) <= 2
    assert total(found["ray_raychat_store_bytes"]) >= 4096
    assert total(found["ray_raychat_link_bytes"]) == 0
    assert total(found["ray_raychat_connections"]) == 0
    assert total(found["ray_raychat_connects"], "_total") >= 2
    assert total(found["ray_raychat_frames"], "_total") >= accepted / 2
    turns = total(found["ray_raychat_turns"], "_total")
    for name in ("turn_events", "commit_ms"):
        assert 0 < total(found[f"ray_raychat_{name}"], "_count") <= turns
    assert total(found["ray_raychat_delivery_ms"], "_sum") > 0
    labels = {key for f in found.values() for s in f.samples for key in s.labels}
    own = {"role", "actor", "peer", "le"}
    assert {label for label in labels if label.islower() and "otel" not in label} <= own


async def test_a_gateway_says_its_health(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer:
        assert json.load(answer)["status"] == "ok"
    [host] = server.actors("Host")
    os.kill(host, signal.SIGSTOP)
    try:

        def degraded() -> bool:
            try:
                urllib.request.urlopen(f"{server.url}/health", timeout=5).close()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code == 503 and json.load(error)["status"] == "degraded"
            return False

        await until(degraded, SECONDS)
    finally:
        os.kill(host, signal.SIGCONT)

    def well() -> bool:
        return server.raychat("status", "--json").returncode == 0

    await until(well, SECONDS)


async def test_a_host_that_cannot_open_its_store_tries_again(server: Server) -> None:
    async with client(server, "ann") as ann:
        await ann.connected(SECONDS)
        [host] = server.actors("Host")
        os.kill(host, signal.SIGKILL)
        lock = await taken(server.data / "hosts" / "host-0.lock")
        try:
            message = await ann.send(NUMBERS["bob"], "while the store was locked")
            await asyncio.to_thread(server.wait_for_log, "store-in-use")
        finally:
            lock.release()
        await message.sent(SECONDS)


async def taken(path: Path) -> FileLock:
    """A lock, taken as soon as its owner is dead."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return FileLock(path)
            except StoreInUse:
                await asyncio.sleep(0.005)


async def test_logs_are_json_and_hold_nothing_private(server: Server) -> None:
    """Those of the actors, and all that Ray writes beside them."""
    async with client(server, "ann") as ann, client(server, "bob") as bob:
        secrets = [
            SECRET_TEXT.encode(),
            *(number[1:].encode() for number in NUMBERS.values()),
            *(form for me in (ann, bob) for form in shapes(me._own.token)),
            *shapes((server.data / "cluster.secret").read_bytes()),
            (server.data / "ray.token").read_bytes().strip(),
        ]
    lines = []
    for name, text in server.logs():
        for secret in secrets:
            assert secret not in text.encode(), name
        lines += [line for line in text.splitlines() if line.startswith("{") and "actor" in line]
    events = [json.loads(line) for line in lines]
    assert {"host-0", "gateway-0", "gateway-1", "accounts"} <= {e["actor"] for e in events}
    assert all({"event", "level", "timestamp"} <= event.keys() for event in events)


def shapes(secret: bytes) -> list[bytes]:
    """How bytes may appear in text."""
    return [
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        repr(bytes(secret))[2:-1].encode(),
    ]


# -- other layouts ---------------------------------------------------------------------------


async def test_down_keeps_what_waits_and_two_hosts_deliver_it(server: Server) -> None:
    async with client(server, "ann") as ann:
        await sent(ann, "bob", "before two hosts", "and this")
    assert server.raychat("down").returncode == 0
    assert server.wait() == 0
    assert server.raychat("status").returncode == 1
    assert server.processes() == {}
    await asyncio.to_thread(server.start, "--hosts=2")
    async with client(server, "bob") as bob:
        texts = ["while you were out", "while the store was locked", "before two hosts", "and this"]
        assert await received(bob, 4) == texts
    async with client(server, "ann") as ann:
        for message in ann.history(NUMBERS["bob"], limit=2):
            await ann.wait(message, State.DELIVERED, SECONDS)


async def test_ctrl_c_keeps_what_waits_and_a_host_for_each_user_delivers_it(
    server: Server,
) -> None:
    async with client(server, "ann") as ann:
        await sent(ann, "bob", "before dedicated hosts")
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(server.start, "--placement=dedicated")
    async with client(server, "ann") as ann, client(server, "bob") as bob:
        assert await received(bob, 1) == ["before dedicated hosts"]
        answer = (await sent(bob, "ann", "one process each"))[0]
        await answer.delivered(SECONDS)
        assert len(server.actors("Host")) == 2
        os.kill(server.actors("Host")[0], signal.SIGKILL)
        for writer, to in ((ann, "bob"), (bob, "ann")):
            await (await sent(writer, to, "still there"))[0].delivered(SECONDS)
        stores = {path.stem for path in (server.data / "hosts").glob("user-*.db")}
        assert stores >= {f"user-{account_text(c.account)}" for c in (ann, bob)}


async def test_dedicated_hosts_become_one_again(server: Server) -> None:
    async with client(server, "ann") as ann:
        await sent(ann, "bob", "before one host")
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(server.start)
    async with client(server, "bob") as bob:
        assert await received(bob, 1) == ["before one host"]
    assert await asyncio.to_thread(server.stop) == 0


# -- TLS -------------------------------------------------------------------------------------


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own authority for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "raychat test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


async def test_with_tls_devices_that_trust_the_certificate_connect_and_no_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(server.folder)
    address = await asyncio.to_thread(server.start, f"--tls-cert={cert}", f"--tls-key={key}")
    assert address["gateway"].startswith("https://")
    async with client(server, "ann") as ann:
        await ann.send(NUMBERS["bob"], "over TLS")
        assert not await ann.flush(3)
        assert not ann.is_connected
    monkeypatch.setenv("RAYCHAT_TLS_CA", str(cert))
    async with client(server, "ann") as ann, client(server, "bob") as bob:
        assert await received(bob, 1) == ["over TLS"]
        await ann.connected(SECONDS)
    status = server.raychat("status", "--json")
    assert (status.returncode, json.loads(status.stdout)["status"]) == (0, "ok")
    assert await asyncio.to_thread(server.stop) == 0
