"""A group for the tests: its id, its members, and what can happen to a message."""

from __future__ import annotations

from collections.abc import Iterator

from raychat.crypto.curve import SIGNATURE_BYTES
from raychat.crypto.group_cipher import GroupCipher
from raychat.crypto.group_message import DistributionId
from raychat.crypto.sender_keys import MemorySenderKeyStore, SenderKeyRecord, SendingKey
from raychat.ids import Address, DeviceId, account_id, new_account_id
from tests.crypto.device import NOW
from tests.crypto.fields import fields, flipped

GROUP = DistributionId(account_id("5f2d9a34-7c1e-4b8a-9d63-0e4f21c6a7b8"))


class Member:
    """A device with its sender keys."""

    def __init__(self) -> None:
        self.address = Address(new_account_id(), DeviceId(1))
        self.store = MemorySenderKeyStore()
        self.cipher = GroupCipher(self.store)

    def share(self, *readers: Member) -> None:
        """Hand our key to readers that lack it."""
        others = addresses(*readers)
        shared = self.cipher.share(GROUP, others, NOW)
        for reader in readers:
            if reader.address in shared.missing:
                assert reader.cipher.process(self.address, shared.message) == GROUP
        self.cipher.mark_shared(GROUP, shared, shared.missing)

    def send(self, plaintext: bytes, *readers: Member) -> bytes:
        return self.cipher.encrypt(GROUP, plaintext, addresses(*readers), NOW)

    def read(self, sender: Member, body: bytes) -> bytes:
        opened = self.cipher.decrypt(sender.address, body)
        assert opened.distribution == GROUP
        return opened.plaintext

    def reload(self) -> None:
        """Go on with what a crash would have left: every key from its bytes."""
        store = self.store
        for group, key in store.sending_keys.items():
            store.sending_keys[group] = SendingKey.from_bytes(key.to_bytes())
        for name, record in store.sender_keys.items():
            store.sender_keys[name] = SenderKeyRecord.from_bytes(record.to_bytes())

    def snapshot(self) -> tuple[object, ...]:
        """All that the store holds, to compare."""
        store = self.store
        return (
            {group: key.to_bytes() for group, key in store.sending_keys.items()},
            dict(store.holders),
            {name: record.to_bytes() for name, record in store.sender_keys.items()},
        )


def addresses(*members: Member) -> frozenset[Address]:
    return frozenset(member.address for member in members)


def group_corruptions(body: bytes) -> Iterator[tuple[str, bytes]]:
    """A SenderKeyMessage with one bit flipped, once in each field and in the signature."""
    for number, start, end in fields(body[:-SIGNATURE_BYTES], 1):
        yield f"field {number}", flipped(body, (start + end) // 2)
    yield "signature", flipped(body, len(body) - 40)
