"""The Signal protocol: raychat beside the reference library, in one run on this machine.

    .venv/bin/python benchmarks/crypto.py [--repeat 5] [--json FILE] [--only SCENARIO,…]

The peer is the npm package that tests/interop installs, measured inside Node, where its users
call it from; the two take turns, run by run. Bodies are 300 bytes. Both sides keep every session
and sender key as bytes: each figure includes loading and storing it.

set-up      process a bundle and encrypt; decrypt that first message
one-way     one side of an established session encrypts, the other decrypts
ping-pong   they take turns, so every message carries a new ratchet key
sender key  a message to a group
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from time import perf_counter_ns

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.crypto_groups import sender_key
from benchmarks.harness.report import Report, Result
from raychat.crypto import (
    CiphertextMessage,
    IdentityKeyPair,
    KyberPreKey,
    MemoryStore,
    PreKey,
    PreKeyBundle,
    SessionCipher,
    SessionRecord,
    SignedPreKey,
)
from raychat.ids import Address, DeviceId, new_account_id

PACKAGE = ROOT / "tests/interop/node_modules/libsignal-0.103.0"
NOW = 1_790_000_000_000
BODY = b"b" * 300

Samples = dict[str, list[int]]
"""Nanoseconds of each call, by the figure they belong to."""


class BytesStore(MemoryStore):
    """Keeps sessions as bytes, as a client's database does."""

    def __init__(self, identity: IdentityKeyPair) -> None:
        super().__init__(identity, 1)
        self.records: dict[Address, bytes] = {}

    def load_session(self, address: Address) -> SessionRecord | None:
        data = self.records.get(address)
        return None if data is None else SessionRecord.from_bytes(data)

    def store_session(self, address: Address, record: SessionRecord) -> None:
        self.records[address] = record.to_bytes()


class Device:
    def __init__(self) -> None:
        self.address = Address(new_account_id(), DeviceId(1))
        self.identity = IdentityKeyPair.generate()
        self.store = BytesStore(self.identity)
        self.cipher = SessionCipher(self.address, self.store)

    def bundle(self) -> PreKeyBundle:
        once = PreKey.generate(1)
        signed = SignedPreKey.generate(self.identity, 1, NOW)
        kyber = KyberPreKey.generate(self.identity, 1, NOW)
        self.store.store_pre_key(once)
        self.store.store_signed_pre_key(signed)
        self.store.store_kyber_pre_key(kyber)
        return PreKeyBundle(
            registration_id=1,
            identity_key=self.identity.public,
            signed_pre_key_id=1,
            signed_pre_key=signed.public,
            signed_pre_key_signature=signed.signature,
            kyber_pre_key_id=1,
            kyber_pre_key=kyber.public,
            kyber_pre_key_signature=kyber.signature,
            pre_key_id=1,
            pre_key=once.public,
        )

    def encrypt(self, peer: Device) -> CiphertextMessage:
        return self.cipher.encrypt(peer.address, BODY, NOW)

    def decrypt(self, peer: Device, message: CiphertextMessage) -> bytes:
        return self.cipher.decrypt(peer.address, message)


def set_up(count: int) -> Samples:
    initiate: list[int] = []
    respond: list[int] = []
    for _ in range(count):
        alice, bob = Device(), Device()
        bundle = bob.bundle()
        start = perf_counter_ns()
        alice.cipher.process_bundle(bob.address, bundle, NOW)
        first = alice.encrypt(bob)
        between = perf_counter_ns()
        bob.decrypt(alice, first)
        respond.append(perf_counter_ns() - between)
        initiate.append(between - start)
    return {"initiate": initiate, "respond": respond}


def established() -> tuple[Device, Device]:
    alice, bob = Device(), Device()
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    bob.decrypt(alice, alice.encrypt(bob))
    alice.decrypt(bob, bob.encrypt(alice))
    return alice, bob


def one_way(count: int) -> Samples:
    encrypt: list[int] = []
    decrypt: list[int] = []
    alice, bob = established()
    for _ in range(count):
        start = perf_counter_ns()
        message = alice.encrypt(bob)
        between = perf_counter_ns()
        bob.decrypt(alice, message)
        decrypt.append(perf_counter_ns() - between)
        encrypt.append(between - start)
    return {"encrypt": encrypt, "decrypt": decrypt}


def ping_pong(count: int) -> Samples:
    encrypt: list[int] = []
    decrypt: list[int] = []
    sender, receiver = established()
    for _ in range(count):
        start = perf_counter_ns()
        message = sender.encrypt(receiver)
        between = perf_counter_ns()
        receiver.decrypt(sender, message)
        decrypt.append(perf_counter_ns() - between)
        encrypt.append(between - start)
        sender, receiver = receiver, sender
    return {"encrypt": encrypt, "decrypt": decrypt}


SCENARIOS: dict[str, tuple[Callable[[int], Samples], int]] = {
    "set-up": (set_up, 150),
    "one-way": (one_way, 1500),
    "ping-pong": (ping_pong, 1500),
    "sender key": (sender_key, 1500),
}
"""Ours by name, with how many calls a run makes; crypto.mjs has the peer's by the same names."""


class Node:
    """The process in which the reference library is measured."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, str(Path(__file__).with_suffix(".mjs")), str(PACKAGE / "dist/index.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, scenario: str, count: int) -> Samples:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"scenario": scenario, "count": count}) + "\n")
        stdin.flush()
        answer: Samples = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def figures(samples: Samples) -> dict[str, float]:
    found = {}
    for name, values in samples.items():
        ordered = sorted(values)
        found[f"{name}_mean_us"] = mean(values) / 1000
        for share in (50, 99):
            found[f"{name}_p{share}_us"] = ordered[len(ordered) * share // 100] / 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs; medians are reported")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="which scenarios to run")
    options = parser.parse_args()

    report = Report("crypto")
    node_path = shutil.which("node")
    node = None
    if node_path is None or not PACKAGE.is_dir():
        report.note("libsignal left out: run tests/interop once, with Node on PATH")
    else:
        node = Node(node_path)
    for name in options.only.split(","):
        run, count = SCENARIOS[name]
        for measured in range(-1, options.repeat):  # the first is to warm up
            ours = figures(run(count))
            theirs = figures(node.run(name, count)) if node else None
            if measured >= 0:
                report.add(Result("raychat", name, ours))
                if theirs:
                    report.add(Result("libsignal-0.103.0", name, theirs))
    if node:
        node.close()
    report.print()
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
