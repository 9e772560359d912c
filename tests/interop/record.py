"""Record the known answers under tests/crypto/vectors/, which are then checked without Node.

    python -m tests.interop.record

Writes those that are not there. A vector that changes means that the format has changed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

from raychat.crypto import CiphertextMessage, PrivateKey
from raychat.crypto.kem import KemPrivateKey
from raychat.crypto.ratchet import ChainKey, MessageKeys
from raychat.crypto.spqr import PostQuantumRatchet, kem
from raychat.crypto.spqr.authenticator import Authenticator
from raychat.crypto.spqr.chains import Chains, Link
from raychat.crypto.spqr.erasure import Encoder
from raychat.ids import Address, account_text
from tests.crypto.braid import Rehearsal, in_turn
from tests.crypto.device import NOW, Device, established
from tests.interop.peer import Peer, PeerDevice

VECTORS = Path(__file__).parent.parent / "crypto" / "vectors"
PACKAGE = "libsignal-0.103.0"
ROUNDS = 60


def primitives() -> dict[str, Any]:
    private, message, nonce = PrivateKey.generate(), b"a message to sign", bytes(range(64))
    other = PrivateKey.generate()
    kem = KemPrivateKey.generate()
    ciphertext, secret = kem.public_key().encapsulate()
    chain = ChainKey(bytes(range(32)), 0)
    salt = bytes(range(32, 64))
    return {
        "xeddsa": {
            "private": text(private.data),
            "public": text(private.public_key().data),
            "message": text(message),
            "nonce": text(nonce),
            "signature": text(private.sign(message, nonce)),
        },
        "agreement": {
            "private": text(private.data),
            "public": text(other.public_key().data),
            "secret": text(private.agree(other.public_key())),
        },
        "kyber1024": {
            "seed": text(kem.seed),
            "public": text(kem.public_key().data),
            "ciphertext": text(ciphertext),
            "secret": text(secret),
        },
        "chain": {
            "key": text(chain.key),
            "seed": text(chain.seed()),
            "next": text(chain.next().key),
            "salt": text(salt),
            "message_keys": text(b"".join(MessageKeys.derive(chain.seed(), None))),
            "salted_message_keys": text(b"".join(MessageKeys.derive(chain.seed(), salt))),
        },
    }


def spqr() -> dict[str, Any]:
    """Each part of the post-quantum ratchet, and a stored ratchet in each state."""
    seed, random, secret = bytes(range(64)), bytes(range(64, 96)), bytes(range(96, 128))
    key = kem.DecapsulationKey(seed)
    header, vector = key.public()
    encapsulation = kem.Encapsulation(header, random)
    first, shared = encapsulation.begin()
    blob = bytes(number * number % 251 for number in range(160))
    chunks = [Encoder(blob, number).next()[1] for number in (0, 4, 5, 6, 1000, 65535)]
    auth = Authenticator.begun(secret)
    later = auth.updated(1, shared)
    chains = Chains.begun(secret, began=True)
    step, salt = Link.from_bytes(chains.links[0]).receiver.next()
    grown = Link.from_bytes(chains.added(shared).links[1])
    return {
        "kem": {
            "seed": text(seed),
            "header": text(header),
            "vector": text(vector),
            "random": text(random),
            "first": text(first),
            "second": text(encapsulation.finish(vector)),
            "secret": text(shared),
        },
        "erasure": {
            "blob": text(blob),
            "chunks": [[chunk.number, text(chunk.data)] for chunk in chunks],
        },
        "authenticator": {
            "secret": text(secret),
            "header_mac": text(auth.header_mac(1, header)),
            "ciphertext_mac": text(later.ciphertext_mac(1, first)),
        },
        "chains": {
            "secret": text(secret),
            "first_salt_sent": text(chains.sent(0)[2]),
            "first_salt_received": text(salt),
            "second_salt_received": text(step.next()[1]),
            "epoch_secret": text(shared),
            "salt_sent_in_epoch_1": text(grown.sender.next()[1] if grown.sender else b""),
        },
        "rehearsal": Rehearsal().digest().hex(),
        "states": [
            {
                "state": type(ratchet.state).__name__,
                "stored": text(ratchet.to_bytes()),
                "field": text(field),
                "salt": text(expected or b""),
            }
            for ratchet, field, expected in first_of_each_state()
        ],
    }


def first_of_each_state() -> list[tuple[PostQuantumRatchet, bytes, bytes | None]]:
    """A ratchet in each state, with a message it gets and the salt of that."""
    found = {}
    for ratchet, field, salt in Rehearsal().receipts():
        found.setdefault(type(ratchet.state), (ratchet, field, salt))
    return list(found.values())


def transcript(theirs: PeerDevice) -> dict[str, Any]:
    """A conversation the reference library began, with all that we used in it."""
    ours, randoms, steps = Device(), [], []
    urandom = os.urandom

    def recorded(size: int) -> bytes:
        randoms.append(urandom(size))
        return randoms[-1]

    theirs.process_bundle(ours.address, ours.bundle(last_resort=True), NOW)
    device = {
        "address": address(ours.address),
        "identity": text(ours.identity.to_bytes()),
        "registration_id": ours.store.registration_id(),
        "pre_key": text(ours.store.load_pre_key(1).to_bytes()),
        "signed_pre_key": text(ours.store.load_signed_pre_key(1).to_bytes()),
        "kyber_pre_key": text(ours.store.load_kyber_pre_key(1).to_bytes()),
    }
    with patch("os.urandom", recorded), in_turn():
        for turn in range(ROUNDS):
            messages = []
            for number in range(3 if turn % 20 == 0 else 1):
                plaintext = b"theirs %d.%d" % (turn, number)
                messages.append((plaintext, theirs.encrypt(ours.address, plaintext, NOW)))
            for plaintext, message in reversed(messages):
                assert ours.cipher.decrypt(theirs.address, message) == plaintext
                steps.append(step("receive", plaintext, message))
            plaintext = b"ours %d" % turn
            message = ours.cipher.encrypt(theirs.address, plaintext, NOW)
            assert theirs.decrypt(ours.address, message) == plaintext
            steps.append(step("send", plaintext, message))
    return {
        "device": device,
        "peer": address(theirs.address),
        "randoms": [text(data) for data in randoms],
        "steps": steps,
    }


def session_record() -> dict[str, Any]:
    """A stored record with everything that can be in one, and messages that it must read."""
    alice, bob = established()
    late = alice.cipher.encrypt(bob.address, b"skipped", NOW)
    bob.cipher.decrypt(alice.address, alice.cipher.encrypt(bob.address, b"x", NOW))
    bob.cipher.process_bundle(alice.address, alice.bundle(), NOW)
    data = bob.store.sessions[alice.address].to_bytes()
    return {
        "address": address(bob.address),
        "identity": text(bob.identity.to_bytes()),
        "peer": address(alice.address),
        "record": text(data),
        "steps": [
            step("receive", b"skipped", late),
            step("receive", b"next", alice.cipher.encrypt(bob.address, b"next", NOW)),
        ],
    }


def step(kind: str, plaintext: bytes, message: CiphertextMessage) -> dict[str, Any]:
    return {
        "do": kind,
        "plaintext": text(plaintext),
        "kind": int(message.kind),
        "body": text(message.body),
    }


def address(value: Address) -> dict[str, Any]:
    return {"account": account_text(value.account), "device": value.device}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    node = shutil.which("node")
    assert node is not None, "Node is not on PATH"
    peer = Peer(node, PACKAGE)
    vectors = {
        "primitives": primitives(),
        "spqr": spqr(),
        "conversation": transcript(peer.device()),
        "session-record-2": session_record(),
    }
    peer.close()
    VECTORS.mkdir(exist_ok=True)
    for name, vector in vectors.items():
        path = VECTORS / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(vector, indent=1) + "\n")


if __name__ == "__main__":
    main()
