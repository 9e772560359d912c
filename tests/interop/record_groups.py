"""Record the known answers of groups, safety numbers, sealed sender and files.

    python -m tests.interop.record_groups

Like record.py: run it once when a vector is added; a vector that changes means that a format
has changed. What the reference library wrote is read by us; what we write is written with every
random byte zero.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from raychat.crypto.attachment import blob_size, encrypt, padded_size
from raychat.crypto.curve import KeyPair
from raychat.crypto.fingerprint import SafetyNumber
from raychat.crypto.profile import ProfileKey
from raychat.crypto.sealed_content import ContentHint, SealedKind
from raychat.crypto.sealed_sender import SealedReader
from raychat.crypto.sealed_upload import Upload
from raychat.ids import Address, account_text, new_account_id
from tests.crypto.device import NOW, Device
from tests.crypto.group import GROUP, Member
from tests.crypto.sealed import Authority, Sealer
from tests.interop.group_peer import GroupPeer
from tests.interop.peer import Peer

VECTORS = Path(__file__).parent.parent / "crypto" / "vectors"
PACKAGE = "libsignal-0.103.0"
FILE_SIZES = (0, 1_024, 100_000)


@contextmanager
def no_chance() -> Iterator[None]:
    """Every random byte is zero."""
    with patch("os.urandom", bytes):
        yield


def sender_keys(theirs: GroupPeer) -> dict[str, Any]:
    """What the reference library sent to a group, and what is then in our store."""
    ours = Member()
    given = theirs.sender_key(GROUP)
    ours.cipher.process(theirs.address, given)
    sent = [
        (b"message %d" % number, theirs.encrypt(GROUP, b"message %d" % number))
        for number in range(6)
    ]
    random.Random(1).shuffle(sent)
    last = sent.pop()
    for plaintext, body in sent:
        assert ours.cipher.decrypt(theirs.address, body) == (GROUP, plaintext)
    record = ours.store.load_sender_key(theirs.address, GROUP)
    assert record is not None
    with no_chance():
        key = ours.cipher.rotate(GROUP, NOW).next()
        written = key.seal(GROUP, b"ours").body
    return {
        "sender": address(theirs.address),
        "distribution": text(given),
        "messages": [{"plaintext": text(p), "body": text(b)} for p, b in (*sent, last)],
        "record": text(record.to_bytes()),
        "sending_key": text(key.to_bytes()),
        "our_distribution": text(key.distribution(GROUP).to_bytes()),
        "our_message": {"plaintext": text(b"ours"), "body": text(written)},
    }


def safety_number() -> dict[str, Any]:
    alice, bob = (new_account_id(), new_account_id())
    alice_key, bob_key = KeyPair.generate().public, KeyPair.generate().public
    number = SafetyNumber.of(alice, alice_key, bob, bob_key)
    return {
        "local": {"account": account_text(alice), "key": text(alice_key.data)},
        "remote": {"account": account_text(bob), "key": text(bob_key.data)},
        "text": number.text,
        "code": text(number.code),
        "code_1": text(SafetyNumber(number.local, number.remote, 1).code),
    }


def sealed_sender(theirs: GroupPeer) -> dict[str, Any]:
    authority, device = Authority(), Device()
    ours = Sealer(authority, device.address.account)
    theirs.device.process_bundle(device.address, device.bundle(), NOW)
    certificate = authority.certify(theirs.address, theirs.identity_key)
    group, hint = b"a group", ContentHint.RESENDABLE
    theirs.sender_key(GROUP)
    first = theirs.seal(
        ours.address, device.identity.public, GROUP, b"first", certificate, hint, group
    )
    second = theirs.seal_for_many(
        [device.address], [new_account_id()], GROUP, b"second", certificate, hint, group
    )
    upload = Upload.parse(second)
    content = ours.content(b"ours", SealedKind.PRE_KEY, hint, group)
    reader = SealedReader(theirs.address, 4242, theirs.identity_key)
    with no_chance():
        our_first = ours.sealed.seal(theirs.identity_key, content, NOW)
        our_second = ours.sealed.seal_for([reader], content, NOW).to_bytes()
    return {
        "root": text(authority.root.public.data),
        "now": NOW,
        "reader": {
            "address": address(device.address),
            "identity": text(device.identity.private.data),
        },
        "sender": address(theirs.address),
        "version_1": text(first),
        "upload": text(second),
        "version_2": text(upload.received(upload.entries[0])),
        "ours": {
            "identity": text(ours.identity.private.data),
            "certificate": text(ours.certificate.to_bytes()),
            "to": address(theirs.address),
            "to_key": text(theirs.identity_key.data),
            "message": text(content.message),
            "hint": int(hint),
            "group": text(group),
            "version_1": text(our_first),
            "upload": text(our_second),
        },
    }


def files() -> dict[str, Any]:
    found = []
    for size in FILE_SIZES:
        blob = bytearray()
        with no_chance():
            attachment = encrypt([file(size)], size, blob.extend)
        assert len(blob) == blob_size(size)
        found.append(
            {
                "size": size,
                "padded": padded_size(size),
                "digest": text(attachment.digest),
                "blob_sha256": hashlib.sha256(blob).hexdigest(),
            }
        )
    key = ProfileKey(bytes(range(32)))
    with no_chance():
        field = key.encrypt("name", b"Alice")
    return {"files": found, "profile": {"key": text(key.data), "name": text(field)}}


def file(size: int) -> bytes:
    return hashlib.shake_128(b"file").digest(size)


def address(value: Address) -> dict[str, Any]:
    return {"account": account_text(value.account), "device": value.device}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    node = shutil.which("node")
    assert node is not None, "Node is not on PATH"
    peer = Peer(node, PACKAGE)
    vectors: dict[str, Callable[[], dict[str, Any]]] = {
        "sender-keys-1": lambda: sender_keys(GroupPeer(peer.device())),
        "safety-number": safety_number,
        "sealed-sender": lambda: sealed_sender(GroupPeer(peer.device())),
        "media": files,
    }
    for name, make in vectors.items():
        (VECTORS / f"{name}.json").write_text(json.dumps(make(), indent=1) + "\n")
    peer.close()


if __name__ == "__main__":
    main()
