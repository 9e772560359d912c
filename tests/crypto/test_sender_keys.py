from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair
from raychat.crypto.kdf import hkdf
from raychat.crypto.sender_keys import (
    GroupMessageKeys,
    MemorySenderKeyStore,
    SenderKeyRecord,
    SenderKeyStore,
    SendingKey,
)
from raychat.errors import (
    DuplicateMessage,
    InvalidMessage,
    StoreError,
    StoreTooNew,
    TooFarAhead,
)
from raychat.ids import Address, DeviceId, new_account_id
from raychat.limits import (
    SENDER_KEY_DAYS,
    SENDER_KEY_MESSAGES,
    SENDER_KEY_STATES,
    SKIP_AHEAD,
    SKIPPED_KEYS,
)
from tests.crypto.device import DAY, NOW
from tests.crypto.group import GROUP


def record_of(*keys: SendingKey) -> SenderKeyRecord:
    record = SenderKeyRecord()
    for key in keys:
        record = record.added(key.distribution(GROUP))
    return record


def ahead(key: SendingKey, steps: int) -> SendingKey:
    for _ in range(steps):
        key = key.next()
    return key


def test_message_keys_are_iv_then_key() -> None:
    keys = GroupMessageKeys.derive(bytes(32))
    assert keys.iv + keys.aes == hkdf(bytes(32), b"WhisperGroup", 48)
    assert (len(keys.iv), len(keys.aes)) == (16, 32)
    assert keys.decrypt(keys.encrypt(b"plain")) == b"plain"
    with pytest.raises(InvalidMessage):
        keys.decrypt(bytes(15))


def test_secrets_do_not_show_themselves() -> None:
    keys = GroupMessageKeys(b"i" * 16, b"k" * 32)
    assert "kk" not in repr(keys)
    key = SendingKey.generate(NOW)
    for secret in (key.chain.key, key.pair.private.data):
        for shown in (repr(key), repr(record_of(key))):
            assert repr(secret)[2:-1] not in shown
            assert secret.hex() not in shown


def test_chain_ids_have_31_bits_and_differ() -> None:
    ids = {SendingKey.generate(NOW).chain_id for _ in range(50)}
    assert len(ids) == 50
    assert all(0 <= chain_id < 2**31 for chain_id in ids)


def test_a_key_is_due_after_so_many_messages_or_days() -> None:
    key = SendingKey.generate(NOW)
    assert not key.is_due(NOW + SENDER_KEY_DAYS * DAY - 1)
    assert key.is_due(NOW + SENDER_KEY_DAYS * DAY)
    assert not ahead(key, SENDER_KEY_MESSAGES - 1).is_due(NOW)
    assert ahead(key, SENDER_KEY_MESSAGES).is_due(NOW)


def test_a_key_is_due_before_a_reader_must_forget_anything() -> None:
    assert min(SKIPPED_KEYS, SKIP_AHEAD) >= SENDER_KEY_MESSAGES


def test_the_newest_key_comes_first_and_the_sixth_is_forgotten() -> None:
    keys = [SendingKey.generate(NOW) for _ in range(SENDER_KEY_STATES + 1)]
    record = record_of(*keys)
    assert [state.chain_id for state in record.states] == [
        key.chain_id for key in reversed(keys[1:])
    ]
    assert record.find(keys[0].chain_id) is None


def test_a_key_that_is_here_already_is_left_as_it_is() -> None:
    key = SendingKey.generate(NOW)
    record = record_of(key)
    _, after = record.states[0].taken(5)
    record = record.updated(after)
    assert record.added(key.distribution(GROUP)) is record


def test_another_signing_key_under_the_same_chain_id_replaces_the_old_one() -> None:
    first, other = SendingKey.generate(NOW), SendingKey.generate(NOW)
    second = SendingKey(first.chain_id, other.chain, other.pair, NOW)
    record = record_of(first, SendingKey.generate(NOW), second)
    assert len(record.states) == 2
    assert record.states[0].signing_key == second.pair.public


def test_each_message_is_taken_once_in_any_order() -> None:
    state = record_of(SendingKey.generate(NOW)).states[0]
    keys = {}
    for iteration in (3, 0, 7, 1, 2):
        keys[iteration], state = state.taken(iteration)
    assert len(set(keys.values())) == 5
    for iteration in keys:
        with pytest.raises(DuplicateMessage):
            state.taken(iteration)


def test_at_most_two_thousand_skipped_keys_are_kept() -> None:
    state = record_of(SendingKey.generate(NOW)).states[0]
    _, state = state.taken(SKIPPED_KEYS + 1)
    with pytest.raises(DuplicateMessage):
        state.taken(0)
    state.taken(1)
    state.taken(SKIPPED_KEYS)


def test_a_jump_of_more_than_25_000_is_refused() -> None:
    state = record_of(SendingKey.generate(NOW)).states[0]
    with pytest.raises(TooFarAhead):
        state.taken(SKIP_AHEAD + 1)


def test_keys_survive_storage() -> None:
    key = ahead(SendingKey.generate(NOW), 3)
    assert SendingKey.from_bytes(key.to_bytes()) == key
    record = record_of(*(SendingKey.generate(NOW) for _ in range(3)))
    _, after = record.states[1].taken(9)
    record = record.updated(after)
    assert SenderKeyRecord.from_bytes(record.to_bytes()) == record
    assert SenderKeyRecord.from_bytes(SenderKeyRecord().to_bytes()) == SenderKeyRecord()


def test_damaged_and_newer_stored_keys_are_refused() -> None:
    key, record = SendingKey.generate(NOW), record_of(SendingKey.generate(NOW))
    _, after = record.states[0].taken(2)
    for written, read in (
        (key.to_bytes(), SendingKey.from_bytes),
        (record.updated(after).to_bytes(), SenderKeyRecord.from_bytes),
    ):
        for bad in (b"", b"\x00" + written[1:], written[:-1], written + b"x", written[:1]):
            with pytest.raises(StoreError):
                read(bad)
        with pytest.raises(StoreTooNew):
            read(b"\x02" + written[1:])
    public = key.pair.public.data
    with pytest.raises(StoreError):
        SendingKey.from_bytes(key.to_bytes().replace(public, bytes(33)))


@given(st.binary(max_size=300))
def test_any_stored_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (SendingKey.from_bytes, SenderKeyRecord.from_bytes):
        for written in (data, b"\x01" + data):
            with contextlib.suppress(StoreError):
                read(written)


def test_a_seal_is_by_the_key_and_for_its_place() -> None:
    key = ahead(SendingKey.generate(NOW), 4)
    message = key.seal(GROUP, b"plain")
    assert (message.chain_id, message.iteration) == (key.chain_id, 4)
    message.verify(key.pair.public)
    keys, _ = record_of(key).states[0].taken(4)
    assert keys.decrypt(message.ciphertext) == b"plain"
    assert KeyPair.of(key.pair.private) == key.pair


def test_the_store_in_memory_gives_back_what_it_was_given() -> None:
    store: SenderKeyStore = MemorySenderKeyStore()
    sender = Address(new_account_id(), DeviceId(1))
    assert store.load_sending_key(GROUP) is None
    assert store.load_sender_key(sender, GROUP) is None
    assert store.load_holders(GROUP) == frozenset()
    key = SendingKey.generate(NOW)
    store.store_sending_key(GROUP, key)
    store.store_sender_key(sender, GROUP, record_of(key))
    store.store_holders(GROUP, frozenset((sender,)))
    assert store.load_sending_key(GROUP) == key
    assert store.load_sender_key(sender, GROUP) == record_of(key)
    assert store.load_holders(GROUP) == {sender}
