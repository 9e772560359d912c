"""Known answers, recorded by tests/interop/record.py (the conversation with libsignal 0.90.0).

They hold what must never change: the bytes on the wire and the bytes in the stores.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from raychat.crypto import (
    CiphertextMessage,
    IdentityKeyPair,
    KemPrivateKey,
    KeyPair,
    KyberPreKey,
    MemoryStore,
    MessageKind,
    PreKey,
    PrivateKey,
    PublicKey,
    SessionCipher,
    SessionRecord,
    SignedPreKey,
)
from raychat.crypto.ratchet import ChainKey, MessageKeys
from raychat.ids import Address, DeviceId, account_id
from tests.crypto.device import NOW


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (Path(__file__).parent / "vectors" / f"{name}.json").read_text()
    )
    return found


def data(text: str) -> bytes:
    return base64.b64decode(text)


def address(fields: dict[str, Any]) -> Address:
    return Address(account_id(fields["account"]), DeviceId(fields["device"]))


PRIMITIVES = vector("primitives")


def test_a_signature_has_these_bytes() -> None:
    known = {name: data(text) for name, text in PRIMITIVES["xeddsa"].items()}
    private = PrivateKey(known["private"])
    assert private.public_key().data == known["public"]
    assert private.sign(known["message"], known["nonce"]) == known["signature"]
    PublicKey(known["public"]).verify(known["message"], known["signature"])


def test_an_agreement_has_these_bytes() -> None:
    known = {name: data(text) for name, text in PRIMITIVES["agreement"].items()}
    assert PrivateKey(known["private"]).agree(PublicKey(known["public"])) == known["secret"]


def test_a_kyber_secret_has_these_bytes() -> None:
    known = {name: data(text) for name, text in PRIMITIVES["kyber1024"].items()}
    private = KemPrivateKey(known["seed"])
    assert private.public_key().data == known["public"]
    assert private.decapsulate(known["ciphertext"]) == known["secret"]


def test_chain_and_message_keys_have_these_bytes() -> None:
    known = {name: data(text) for name, text in PRIMITIVES["chain"].items()}
    chain = ChainKey(known["key"], 0)
    assert chain.seed() == known["seed"]
    assert chain.next().key == known["next"]
    keys = MessageKeys.derive(known["seed"], None)
    assert b"".join(keys) == known["message_keys"]
    keys = MessageKeys.derive(known["seed"], known["salt"])
    assert b"".join(keys) == known["salted_message_keys"]


def test_a_conversation_begun_by_libsignal_has_these_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = vector("conversation")
    device, peer = known["device"], address(known["peer"])
    identity = IdentityKeyPair.from_bytes(data(device["identity"]))
    store = MemoryStore(identity, device["registration_id"])
    store.store_pre_key(PreKey.from_bytes(data(device["pre_key"])))
    store.store_signed_pre_key(SignedPreKey.from_bytes(data(device["signed_pre_key"])))
    store.store_kyber_pre_key(KyberPreKey.from_bytes(data(device["kyber_pre_key"])))
    cipher = SessionCipher(address(device["address"]), store)
    pairs = (KeyPair.of(PrivateKey(data(key))) for key in known["ratchet_private_keys"])
    monkeypatch.setattr("raychat.crypto.ratchet.KeyPair.generate", lambda: next(pairs))
    for step in known["steps"]:
        message = CiphertextMessage(MessageKind(step["kind"]), data(step["body"]))
        if step["do"] == "receive":
            assert cipher.decrypt(peer, message) == data(step["plaintext"])
        else:
            assert cipher.encrypt(peer, data(step["plaintext"]), NOW) == message


def test_a_stored_record_of_format_1_is_read_and_used() -> None:
    known = vector("session-record-1")
    store = MemoryStore(IdentityKeyPair.from_bytes(data(known["identity"])), 1)
    peer = address(known["peer"])
    stored = data(known["record"])
    record = SessionRecord.from_bytes(stored)
    assert record.current is not None
    assert record.to_bytes() == stored
    store.store_session(peer, record)
    cipher = SessionCipher(address(known["address"]), store)
    for step in known["steps"]:
        message = CiphertextMessage(MessageKind(step["kind"]), data(step["body"]))
        assert cipher.decrypt(peer, message) == data(step["plaintext"])
