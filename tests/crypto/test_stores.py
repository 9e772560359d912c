from __future__ import annotations

import pytest

from raychat.crypto import Direction, IdentityKeyPair, MemoryStore, ProtocolStore
from raychat.errors import DuplicateMessage, UnknownPreKey
from tests.crypto.device import Device

ALICE, BOB, CAROL = Device(), Device(), Device()


def store() -> ProtocolStore:
    return MemoryStore(IdentityKeyPair.generate(), 1)


def test_the_first_identity_seen_is_trusted_and_another_is_not() -> None:
    kept = store()
    for direction in Direction:
        assert kept.is_trusted(BOB.address, BOB.identity.public, direction)
    assert not kept.save_identity(BOB.address, BOB.identity.public)
    assert kept.load_identity(BOB.address) == BOB.identity.public
    for direction in Direction:
        assert kept.is_trusted(BOB.address, BOB.identity.public, direction)
        assert not kept.is_trusted(BOB.address, CAROL.identity.public, direction)


def test_a_changed_identity_is_reported_and_then_trusted() -> None:
    kept = store()
    kept.save_identity(BOB.address, BOB.identity.public)
    assert kept.save_identity(BOB.address, CAROL.identity.public)
    assert kept.is_trusted(BOB.address, CAROL.identity.public, Direction.SENDING)


def test_an_unknown_pre_key_is_refused_by_name() -> None:
    kept = store()
    for load in (kept.load_pre_key, kept.load_signed_pre_key, kept.load_kyber_pre_key):
        with pytest.raises(UnknownPreKey, match="5"):
            load(5)


def test_removing_a_pre_key_twice_is_no_error() -> None:
    kept = store()
    kept.remove_pre_key(5)


def test_a_used_one_time_kyber_key_is_removed() -> None:
    device = Device()
    device.bundle()
    device.store.mark_kyber_pre_key_used(1, 1, ALICE.identity.public)
    with pytest.raises(UnknownPreKey):
        device.store.load_kyber_pre_key(1)


def test_a_last_resort_kyber_key_serves_each_base_key_once() -> None:
    device = Device()
    device.bundle(last_resort=True)
    device.store.mark_kyber_pre_key_used(1, 1, ALICE.identity.public)
    device.store.mark_kyber_pre_key_used(1, 1, BOB.identity.public)
    device.store.mark_kyber_pre_key_used(1, 2, BOB.identity.public)
    with pytest.raises(DuplicateMessage):
        device.store.mark_kyber_pre_key_used(1, 1, ALICE.identity.public)
