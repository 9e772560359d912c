"""Sender keys for benchmarks/crypto.py: a message to a group, and its reading by one member.

Keys are kept as bytes, so each figure includes loading and storing one. The peer is measured in
crypto.mjs under the same name of the scenario, `sender key`, with the same figures.
"""

from __future__ import annotations

from time import perf_counter_ns

from raychat.crypto.group_cipher import GroupCipher
from raychat.crypto.group_message import DistributionId, new_distribution_id
from raychat.crypto.sender_keys import (
    MemorySenderKeyStore,
    SenderKeyRecord,
    SendingKey,
)
from raychat.ids import Address, DeviceId, new_account_id
from raychat.limits import SENDER_KEY_MESSAGES

NOW = 1_790_000_000_000
BODY = b"b" * 300


class BytesSenderKeyStore(MemorySenderKeyStore):
    """Keeps keys as bytes, as a client's database does."""

    def __init__(self) -> None:
        super().__init__()
        self.own: dict[DistributionId, bytes] = {}
        self.records: dict[tuple[Address, DistributionId], bytes] = {}

    def load_sending_key(self, distribution: DistributionId) -> SendingKey | None:
        data = self.own.get(distribution)
        return None if data is None else SendingKey.from_bytes(data)

    def store_sending_key(self, distribution: DistributionId, key: SendingKey) -> None:
        self.own[distribution] = key.to_bytes()

    def load_sender_key(
        self, sender: Address, distribution: DistributionId
    ) -> SenderKeyRecord | None:
        data = self.records.get((sender, distribution))
        return None if data is None else SenderKeyRecord.from_bytes(data)

    def store_sender_key(
        self, sender: Address, distribution: DistributionId, record: SenderKeyRecord
    ) -> None:
        self.records[sender, distribution] = record.to_bytes()


def sender_key(count: int) -> dict[str, list[int]]:
    """Nanoseconds of each of `count` calls, by the figure they belong to."""
    encrypt: list[int] = []
    decrypt: list[int] = []
    group = new_distribution_id()
    alice, bob = GroupCipher(BytesSenderKeyStore()), GroupCipher(BytesSenderKeyStore())
    address, reader = (Address(new_account_id(), DeviceId(1)) for _ in range(2))
    readers = frozenset((reader,))
    for number in range(count):
        if number % SENDER_KEY_MESSAGES == 0:
            shared = alice.share(group, readers, NOW)
            bob.process(address, shared.message)
            alice.mark_shared(group, shared, readers)
        start = perf_counter_ns()
        body = alice.encrypt(group, BODY, readers, NOW)
        between = perf_counter_ns()
        bob.decrypt(address, body)
        decrypt.append(perf_counter_ns() - between)
        encrypt.append(between - start)
    return {"encrypt": encrypt, "decrypt": decrypt}
