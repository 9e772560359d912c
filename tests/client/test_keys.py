"""The key store does what the protocol's other store does, and keeps it in the file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from raychat.client.keys import SESSIONS_HELD, first_key_id, new_registration_id
from raychat.client.store import DeviceStore
from raychat.crypto import Direction, IdentityKeyPair, KeyPair, SessionRecord
from raychat.crypto.device_list import DeviceList, ListedDevice, SignedDeviceList
from raychat.errors import DuplicateMessage, UnknownPreKey
from raychat.ids import AccountId, Address, DeviceId, PhoneNumber

PEER = Address(AccountId(b"p" * 16), DeviceId(2))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeviceStore]:
    store = DeviceStore(tmp_path)
    with store.transaction():
        store.prepare(PhoneNumber("+15550001111"), "http://server")
    yield store
    store.close()


def test_one_time_keys_are_published_once_and_used_once(store: DeviceStore) -> None:
    keys = store.keys
    with store.transaction():
        keys.make_one_time_keys(1, 3, 2)
    pre_keys, kyber = keys.unpublished(9)
    assert (len(pre_keys), len(kyber)) == (3, 2)
    ids = [key.key_id for key in [*pre_keys, *kyber]]
    assert len(set(ids)) == 5
    with store.transaction():
        keys.published(pre_keys[:2], kyber[:1])
    assert [k.key_id for k in keys.unpublished(9)[0]] == [pre_keys[2].key_id]
    assert keys.load_pre_key(pre_keys[0].key_id) == pre_keys[0]
    assert keys.load_kyber_pre_key(kyber[0].key_id).to_bytes() == kyber[0].to_bytes()
    with store.transaction():
        keys.remove_pre_key(pre_keys[0].key_id)
        keys.mark_kyber_pre_key_used(kyber[0].key_id, 1, KeyPair.generate().public)
    with pytest.raises(UnknownPreKey):
        keys.load_pre_key(pre_keys[0].key_id)
    with pytest.raises(UnknownPreKey):
        keys.load_kyber_pre_key(kyber[0].key_id)


def test_key_ids_are_never_given_out_twice(store: DeviceStore) -> None:
    with store.transaction():
        store.keys.make_one_time_keys(1, 2, 0)
    first = {key.key_id for key in store.keys.unpublished(9)[0]}
    with store.transaction():
        for key_id in first:
            store.keys.remove_pre_key(key_id)
        store.keys.make_one_time_keys(1, 2, 0)
    assert not first & {key.key_id for key in store.keys.unpublished(9)[0]}


def test_a_last_resort_key_stays_and_takes_no_first_message_twice(store: DeviceStore) -> None:
    with store.transaction():
        signed, last, _ = store.keys.make_long_keys(1)
    base = KeyPair.generate().public
    with store.transaction():
        store.keys.mark_kyber_pre_key_used(last.key_id, signed.key_id, base)
        store.keys.mark_kyber_pre_key_used(last.key_id, signed.key_id, KeyPair.generate().public)
    with pytest.raises(DuplicateMessage), store.transaction():
        store.keys.mark_kyber_pre_key_used(last.key_id, signed.key_id, base)
    assert store.keys.load_kyber_pre_key(last.key_id).last_resort
    assert store.keys.load_signed_pre_key(signed.key_id) == signed


def test_a_last_resort_pre_key_stands_in_for_a_one_time_key_and_stays(store: DeviceStore) -> None:
    with store.transaction():
        made = store.keys.make_long_keys(1).last_resort_pre_key
        store.keys.remove_pre_key(made.key_id)
    found = store.keys.load_pre_key(made.key_id)
    assert (found.key_id, found.pair) == (made.key_id, made.pair)


def test_ids_grow_by_steps_of_chance(store: DeviceStore) -> None:
    with store.transaction():
        store.keys.make_one_time_keys(1, 60, 0)
    ids = [key.key_id for key in store.keys.unpublished(99)[0]]
    steps = {after - before for before, after in pairwise(ids)}
    assert min(steps) >= 1
    assert len(steps) > 3


def test_the_key_of_a_device_is_what_the_signed_list_says(store: DeviceStore) -> None:
    keys = store.keys
    primary = IdentityKeyPair.generate()
    one, two = (IdentityKeyPair.generate().public for _ in range(2))
    for number, listed in ((1, one), (2, two)):
        devices = ((1, primary.public), (2, listed))
        entries = tuple(ListedDevice(DeviceId(device), key, 0) for device, key in devices)
        signed = SignedDeviceList.sign(DeviceList(PEER.account, number, 0, entries), primary)
        with store.transaction():
            assert store.lists.take(PEER.account, signed.to_bytes(), now=1) is not None
        for direction in Direction:
            assert keys.is_trusted(PEER, listed, direction)
            assert not keys.is_trusted(PEER, primary.public, direction)
    assert keys.is_trusted(PEER, one, Direction.RECEIVING)
    assert not keys.is_trusted(PEER, one, Direction.SENDING)
    with store.transaction():
        store.lists.expire(10**9)
    assert not keys.is_trusted(PEER, one, Direction.RECEIVING)


def test_an_identity_is_remembered_until_another_takes_its_place(store: DeviceStore) -> None:
    keys = store.keys
    one, two = (IdentityKeyPair.generate().public for _ in range(2))
    with store.transaction():
        assert not keys.save_identity(PEER, one)
        assert not keys.save_identity(PEER, one)
        assert keys.save_identity(PEER, two)
    assert keys.load_identity(PEER) == two


def test_sessions_are_written_when_the_transaction_ends(store: DeviceStore) -> None:
    keys = store.keys
    with store.transaction():
        keys.store_session(PEER, SessionRecord())
        assert store._row("SELECT count(*) FROM session") == (0,)
    assert store._row("SELECT count(*) FROM session") == (1,)
    with pytest.raises(ZeroDivisionError), store.transaction():
        keys.store_session(Address(PEER.account, DeviceId(9)), SessionRecord())
        raise ZeroDivisionError
    assert keys.load_session(Address(PEER.account, DeviceId(9))) is None
    assert keys.load_session(PEER) is not None


def test_few_sessions_are_held(store: DeviceStore) -> None:
    addresses = [Address(AccountId(n.to_bytes(16, "big")), DeviceId(1)) for n in range(300)]
    with store.transaction():
        for address in addresses:
            store.keys.store_session(address, SessionRecord())
    assert len(store.keys._sessions) == SESSIONS_HELD
    assert all(store.keys.load_session(address) for address in addresses)


def test_numbers_drawn_are_in_range() -> None:
    assert all(1 <= new_registration_id() <= 16_380 for _ in range(100))
    assert all(1 <= first_key_id() < 2**24 for _ in range(100))
