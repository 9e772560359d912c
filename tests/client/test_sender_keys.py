"""Both sender-key stores, in memory and in the device's file, do the same; the file keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raychat.client.store import DeviceStore
from raychat.crypto.group_cipher import GroupCipher
from raychat.crypto.group_message import new_distribution_id
from raychat.crypto.sender_keys import MemorySenderKeyStore, SenderKeyStore
from raychat.errors import DuplicateMessage
from raychat.ids import AccountId, Address, DeviceId

ANN = Address(AccountId(b"a" * 16), DeviceId(1))
BOB = Address(AccountId(b"b" * 16), DeviceId(1))
CAT = Address(AccountId(b"c" * 16), DeviceId(2))
NOW = 1_700_000_000_000


@pytest.fixture(params=["memory", "file"])
def stores(request, tmp_path: Path) -> Iterator[tuple[SenderKeyStore, SenderKeyStore]]:
    if request.param == "memory":
        yield MemorySenderKeyStore(), MemorySenderKeyStore()
        return
    files = [DeviceStore(tmp_path / name) for name in ("ann", "bob")]
    yield tuple(file.sender_keys for file in files)
    for file in files:
        file.close()


def test_a_group_message_goes_from_store_to_store(stores) -> None:
    group = new_distribution_id()
    ann, bob = GroupCipher(stores[0]), GroupCipher(stores[1])
    shared = ann.share(group, {BOB, CAT}, NOW)
    bob.process(ANN, shared.message)
    ann.mark_shared(group, shared, {BOB, CAT})
    assert stores[0].load_holders(group) == {BOB, CAT}
    first, second = (ann.encrypt(group, text, {BOB, CAT}, NOW) for text in (b"one", b"two"))
    assert bob.decrypt(ANN, second).plaintext == b"two"
    assert bob.decrypt(ANN, first).plaintext == b"one"
    with pytest.raises(DuplicateMessage):
        bob.decrypt(ANN, first)


def test_holders_are_replaced(stores) -> None:
    group = new_distribution_id()
    for holders in ({BOB, CAT}, {CAT}, set(), {BOB}):
        stores[0].store_holders(group, frozenset(holders))
        assert stores[0].load_holders(group) == holders


def test_the_file_keeps_sender_keys(tmp_path: Path) -> None:
    group = new_distribution_id()
    file = DeviceStore(tmp_path / "ann")
    ann = GroupCipher(file.sender_keys)
    shared = ann.share(group, {BOB}, NOW)
    ann.mark_shared(group, shared, {BOB})
    bob = GroupCipher(MemorySenderKeyStore())
    bob.process(ANN, shared.message)
    assert bob.decrypt(ANN, ann.encrypt(group, b"before", {BOB}, NOW)).plaintext == b"before"
    file.close()
    file = DeviceStore(tmp_path / "ann")
    ann = GroupCipher(file.sender_keys)
    assert bob.decrypt(ANN, ann.encrypt(group, b"after", {BOB}, NOW)).plaintext == b"after"
    file.close()
