"""A device of our own for the tests: its address, its store, its cipher."""

from __future__ import annotations

from raychat.crypto import (
    IdentityKeyPair,
    KyberPreKey,
    MemoryStore,
    PreKey,
    PreKeyBundle,
    SessionCipher,
    SessionRecord,
    SignedPreKey,
)
from raychat.ids import AccountId, Address, DeviceId, new_account_id

NOW = 1_790_000_000_000
DAY = 86_400_000


class Device:
    def __init__(self, account: AccountId | None = None, device: int = 1) -> None:
        self.address = Address(account or new_account_id(), DeviceId(device))
        self.identity = IdentityKeyPair.generate()
        self.store = MemoryStore(self.identity, registration_id=1000 + device)
        self.cipher = SessionCipher(self.address, self.store)
        self._next_id = 1

    def bundle(self, *, one_time: bool = True, last_resort: bool = False) -> PreKeyBundle:
        """Make fresh pre-keys and publish them."""
        key_id, self._next_id = self._next_id, self._next_id + 1
        signed = SignedPreKey.generate(self.identity, key_id, NOW)
        kyber = KyberPreKey.generate(self.identity, key_id, NOW, last_resort=last_resort)
        self.store.store_signed_pre_key(signed)
        self.store.store_kyber_pre_key(kyber)
        pre_key = None
        if one_time:
            pre_key = PreKey.generate(key_id)
            self.store.store_pre_key(pre_key)
        return PreKeyBundle(
            registration_id=self.store.registration_id(),
            identity_key=self.identity.public,
            signed_pre_key_id=key_id,
            signed_pre_key=signed.public,
            signed_pre_key_signature=signed.signature,
            kyber_pre_key_id=key_id,
            kyber_pre_key=kyber.public,
            kyber_pre_key_signature=kyber.signature,
            pre_key_id=None if pre_key is None else pre_key.key_id,
            pre_key=None if pre_key is None else pre_key.public,
        )

    def reload(self) -> None:
        """Go on with what a crash would have left: every session from its bytes."""
        for address, record in self.store.sessions.items():
            self.store.sessions[address] = SessionRecord.from_bytes(record.to_bytes())

    def snapshot(self) -> tuple[object, ...]:
        """All that the store holds, to compare."""
        store = self.store
        return (
            {address: record.to_bytes() for address, record in store.sessions.items()},
            dict(store.identities),
            set(store.pre_keys),
            set(store.signed_pre_keys),
            set(store.kyber_pre_keys),
            set(store.used_base_keys),
        )


def established() -> tuple[Device, Device]:
    """Two devices that have each heard the other."""
    alice, bob = Device(), Device()
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    hello = alice.cipher.encrypt(bob.address, b"hello", NOW)
    assert bob.cipher.decrypt(alice.address, hello) == b"hello"
    answer = bob.cipher.encrypt(alice.address, b"hello yourself", NOW)
    assert alice.cipher.decrypt(bob.address, answer) == b"hello yourself"
    return alice, bob
