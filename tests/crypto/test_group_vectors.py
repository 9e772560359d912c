"""Known answers of groups, safety numbers, sealed sender and files.

Recorded by tests/interop/record_groups.py. They hold what must never change: the bytes on the
wire and the bytes in the stores.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from raychat.crypto.attachment import Attachment, decrypt, encrypt, padded_size
from raychat.crypto.certificates import SenderCertificate, TrustRoots
from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.crypto.fingerprint import SafetyNumber
from raychat.crypto.group_cipher import GroupCipher
from raychat.crypto.profile import ProfileKey
from raychat.crypto.sealed_content import ContentHint, SealedContent, SealedKind
from raychat.crypto.sealed_sender import SealedReader, SealedSender
from raychat.crypto.sealed_upload import Upload
from raychat.crypto.sender_keys import MemorySenderKeyStore, SenderKeyRecord, SendingKey
from raychat.errors import DuplicateMessage
from raychat.ids import account_id
from tests.crypto.group import GROUP
from tests.crypto.test_vectors import address, data, vector


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random byte is zero."""
    monkeypatch.setattr("os.urandom", bytes)


def test_messages_to_a_group_have_these_bytes() -> None:
    known = vector("sender-keys-1")
    sender = address(known["sender"])
    cipher = GroupCipher(MemorySenderKeyStore())
    cipher.process(sender, data(known["distribution"]))
    for message in known["messages"]:
        opened = cipher.decrypt(sender, data(message["body"]))
        assert opened == (GROUP, data(message["plaintext"]))


def test_a_stored_sender_key_of_format_1_is_read_and_used() -> None:
    known = vector("sender-keys-1")
    sender, store = address(known["sender"]), MemorySenderKeyStore()
    record = SenderKeyRecord.from_bytes(data(known["record"]))
    assert record.to_bytes() == data(known["record"])
    store.store_sender_key(sender, GROUP, record)
    cipher = GroupCipher(store)
    *read, last = known["messages"]
    assert cipher.decrypt(sender, data(last["body"])).plaintext == data(last["plaintext"])
    for message in read:
        with pytest.raises(DuplicateMessage):
            cipher.decrypt(sender, data(message["body"]))


@pytest.mark.usefixtures("no_chance")
def test_a_stored_sending_key_of_format_1_writes_these_bytes() -> None:
    known = vector("sender-keys-1")
    key = SendingKey.from_bytes(data(known["sending_key"]))
    assert key.to_bytes() == data(known["sending_key"])
    assert key.distribution(GROUP).to_bytes() == data(known["our_distribution"])
    message = known["our_message"]
    assert key.seal(GROUP, data(message["plaintext"])).body == data(message["body"])


def test_a_safety_number_has_these_digits() -> None:
    known = vector("safety-number")
    people = [
        (account_id(known[side]["account"]), PublicKey(data(known[side]["key"])))
        for side in ("local", "remote")
    ]
    number = SafetyNumber.of(*people[0], *people[1])
    assert number.text == known["text"]
    assert number.code == data(known["code"])
    assert SafetyNumber(number.local, number.remote, 1).code == data(known["code_1"])


def test_sealed_messages_have_these_bytes() -> None:
    known = vector("sealed-sender")
    reader = known["reader"]
    sealed = SealedSender(
        address(reader["address"]),
        KeyPair.of(PrivateKey(data(reader["identity"]))),
        TrustRoots((PublicKey(data(known["root"])),)),
    )
    upload = Upload.parse(data(known["upload"]))
    assert upload.to_bytes() == data(known["upload"])
    assert upload.received(upload.entries[0]) == data(known["version_2"])
    for version in ("version_1", "version_2"):
        opened = sealed.open(data(known[version]), known["now"])
        assert opened.kind is SealedKind.SENDER_KEY
        assert opened.certificate.sender == address(known["sender"])
        assert (opened.hint, opened.group) == (ContentHint.RESENDABLE, b"a group")


@pytest.mark.usefixtures("no_chance")
def test_we_seal_with_these_bytes() -> None:
    known: dict[str, Any] = vector("sealed-sender")
    ours, now = known["ours"], known["now"]
    certificate = SenderCertificate.parse(data(ours["certificate"]))
    identity = KeyPair.of(PrivateKey(data(ours["identity"])))
    sealed = SealedSender(certificate.sender, identity, TrustRoots(()))
    content = SealedContent(
        SealedKind.PRE_KEY,
        certificate,
        data(ours["message"]),
        ContentHint(ours["hint"]),
        data(ours["group"]),
    )
    key = PublicKey(data(ours["to_key"]))
    assert sealed.seal(key, content, now) == data(ours["version_1"])
    reader = SealedReader(address(ours["to"]), 4242, key)
    assert sealed.seal_for([reader], content, now).to_bytes() == data(ours["upload"])


@pytest.mark.usefixtures("no_chance")
@pytest.mark.parametrize("known", vector("media")["files"], ids=lambda known: str(known["size"]))
def test_a_file_has_these_bytes(known: dict[str, Any]) -> None:
    size, blob = known["size"], bytearray()
    file = hashlib.shake_128(b"file").digest(size)
    attachment = encrypt([file], size, blob.extend)
    assert padded_size(size) == known["padded"]
    assert attachment == Attachment(bytes(32), data(known["digest"]), size)
    assert hashlib.sha256(blob).hexdigest() == known["blob_sha256"]
    assert b"".join(decrypt(attachment, lambda start, stop: bytes(blob[start:stop]))) == file


@pytest.mark.usefixtures("no_chance")
def test_a_profile_field_has_these_bytes() -> None:
    known = vector("media")["profile"]
    key = ProfileKey(data(known["key"]))
    assert key.encrypt("name", b"Alice") == data(known["name"])
    assert key.decrypt("name", data(known["name"])) == b"Alice"
