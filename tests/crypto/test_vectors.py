"""Known answers, recorded by tests/interop/record.py (the conversation with libsignal 0.103.0).

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
from raychat.crypto.spqr import PostQuantumRatchet, kem
from raychat.crypto.spqr.authenticator import Authenticator
from raychat.crypto.spqr.chains import Chains
from raychat.crypto.spqr.erasure import Encoder
from raychat.ids import Address, DeviceId, account_id
from tests.crypto.braid import Rehearsal, in_turn
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
    randoms = iter(known["randoms"])
    monkeypatch.setattr("os.urandom", lambda size: data(next(randoms)))
    with in_turn():
        for step in known["steps"]:
            message = CiphertextMessage(MessageKind(step["kind"]), data(step["body"]))
            if step["do"] == "receive":
                assert cipher.decrypt(peer, message) == data(step["plaintext"])
            else:
                assert cipher.encrypt(peer, data(step["plaintext"]), NOW) == message


def test_a_stored_record_of_format_2_is_read_and_used() -> None:
    known = vector("session-record-2")
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


def test_sessions_of_format_1_are_not_read_on() -> None:
    """They had no post-quantum ratchet."""
    record = SessionRecord.from_bytes(data(vector("session-record-1")["record"]))
    assert record.current is None
    assert not list(record.sessions())


SPQR = vector("spqr")


def test_an_incremental_encapsulation_has_these_bytes() -> None:
    known = {name: data(text) for name, text in SPQR["kem"].items()}
    key = kem.DecapsulationKey(known["seed"])
    assert key.public() == (known["header"], known["vector"])
    encapsulation = kem.Encapsulation(known["header"], known["random"])
    assert encapsulation.begin() == (known["first"], known["secret"])
    assert encapsulation.finish(known["vector"]) == known["second"]
    assert key.decapsulate(known["first"], known["second"]) == known["secret"]


def test_chunks_have_these_bytes() -> None:
    blob = data(SPQR["erasure"]["blob"])
    for number, chunk in SPQR["erasure"]["chunks"]:
        assert Encoder(blob, number).next()[1] == (number, data(chunk))


def test_the_authenticator_has_these_bytes() -> None:
    known = {name: data(text) for name, text in SPQR["authenticator"].items()}
    keys = {name: data(text) for name, text in SPQR["kem"].items()}
    auth = Authenticator.begun(known["secret"])
    assert auth.header_mac(1, keys["header"]) == known["header_mac"]
    later = auth.updated(1, keys["secret"])
    assert later.ciphertext_mac(1, keys["first"]) == known["ciphertext_mac"]


def test_post_quantum_salts_have_these_bytes() -> None:
    known = {name: data(text) for name, text in SPQR["chains"].items()}
    a = Chains.begun(known["secret"], began=True)
    b = Chains.begun(known["secret"], began=False)
    assert a.sent(0)[2] == known["first_salt_sent"]
    b, _, first = b.sent(0)
    _, _, second = b.sent(0)
    assert first == known["first_salt_received"]
    assert second == known["second_salt_received"]
    assert a.added(known["epoch_secret"]).sent(1)[2] == known["salt_sent_in_epoch_1"]


def test_a_stored_ratchet_in_each_state_is_read_and_used() -> None:
    assert len({known["state"] for known in SPQR["states"]}) == 11
    for known in SPQR["states"]:
        ratchet = PostQuantumRatchet.from_bytes(data(known["stored"]))
        assert type(ratchet.state).__name__ == known["state"]
        assert ratchet.to_bytes() == data(known["stored"])
        _, salt = ratchet.receive(data(known["field"]))
        assert salt == data(known["salt"])


def test_a_long_exchange_has_these_bytes() -> None:
    """Stored, on the wire and derived, over several epochs and with losses."""
    assert Rehearsal().digest().hex() == SPQR["rehearsal"]
