"""Where a device keeps what the protocol needs: five small protocols, and one in memory.

Every method is synchronous. `SessionCipher` reads what it needs, and only when a message has
passed every check does it write, all at once at the end: an implementation over a database
runs one call of the cipher inside one transaction. Records and keys handed over are never
changed afterwards, so a store may keep the objects themselves.
"""

from __future__ import annotations

import enum
from typing import Protocol, TypeVar

from raychat.crypto.curve import PublicKey
from raychat.crypto.prekeys import IdentityKeyPair, KyberPreKey, PreKey, SignedPreKey
from raychat.crypto.session import SessionRecord
from raychat.errors import DuplicateMessage, UnknownPreKey
from raychat.ids import Address

_Key = TypeVar("_Key", PreKey, SignedPreKey, KyberPreKey)


class Direction(enum.Enum):
    """What a peer's identity key is about to be trusted for."""

    SENDING = "sending"
    RECEIVING = "receiving"


class IdentityStore(Protocol):
    """Our own identity, and the identity keys that peers were seen to have."""

    def identity_key_pair(self) -> IdentityKeyPair: ...

    def registration_id(self) -> int:
        """A 14-bit number drawn when the device was registered."""
        ...

    def is_trusted(self, address: Address, key: PublicKey, direction: Direction) -> bool:
        """Whether to go on with this key; False makes the cipher raise UntrustedIdentity.

        The usual rule trusts the first key seen, and a changed one when the person accepts it.
        """
        ...

    def save_identity(self, address: Address, key: PublicKey) -> bool:
        """Remember the key of a new session. True if it took the place of another key."""
        ...

    def load_identity(self, address: Address) -> PublicKey | None: ...


class SessionStore(Protocol):
    """One record for each peer device."""

    def load_session(self, address: Address) -> SessionRecord | None: ...

    def store_session(self, address: Address, record: SessionRecord) -> None: ...


class PreKeyStore(Protocol):
    """One-time pre-keys: each is removed when its first message has been decrypted."""

    def load_pre_key(self, key_id: int) -> PreKey:
        """Raises UnknownPreKey."""
        ...

    def store_pre_key(self, pre_key: PreKey) -> None: ...

    def remove_pre_key(self, key_id: int) -> None: ...


class SignedPreKeyStore(Protocol):
    """Signed pre-keys: the current one and those replaced lately, for messages under way."""

    def load_signed_pre_key(self, key_id: int) -> SignedPreKey:
        """Raises UnknownPreKey."""
        ...

    def store_signed_pre_key(self, pre_key: SignedPreKey) -> None: ...


class KyberPreKeyStore(Protocol):
    """Kyber pre-keys, one-time and last-resort ones."""

    def load_kyber_pre_key(self, key_id: int) -> KyberPreKey:
        """Raises UnknownPreKey."""
        ...

    def store_kyber_pre_key(self, pre_key: KyberPreKey) -> None: ...

    def mark_kyber_pre_key_used(
        self, key_id: int, signed_pre_key_id: int, base_key: PublicKey
    ) -> None:
        """Called once for every session begun with the key, before anything else is written.

        A one-time key is to be removed. For a last-resort key remember the three values until
        the key itself is deleted, and raise DuplicateMessage if they come again: it is a first
        message replayed after its session was forgotten.
        """
        ...


class ProtocolStore(
    IdentityStore, SessionStore, PreKeyStore, SignedPreKeyStore, KyberPreKeyStore, Protocol
):
    """All of a device's stores behind one object."""


class MemoryStore:
    """A ProtocolStore that forgets everything with the process: for tests and short tools.

    It trusts the first identity key it sees of an address and refuses another one until
    `save_identity` is called with it.
    """

    def __init__(self, identity: IdentityKeyPair, registration_id: int) -> None:
        self._identity = identity
        self._registration_id = registration_id
        self.identities: dict[Address, PublicKey] = {}
        self.sessions: dict[Address, SessionRecord] = {}
        self.pre_keys: dict[int, PreKey] = {}
        self.signed_pre_keys: dict[int, SignedPreKey] = {}
        self.kyber_pre_keys: dict[int, KyberPreKey] = {}
        self.used_base_keys: set[tuple[int, int, PublicKey]] = set()

    def identity_key_pair(self) -> IdentityKeyPair:
        return self._identity

    def registration_id(self) -> int:
        return self._registration_id

    def is_trusted(self, address: Address, key: PublicKey, direction: Direction) -> bool:
        return self.identities.get(address, key) == key

    def save_identity(self, address: Address, key: PublicKey) -> bool:
        before = self.identities.get(address, key)
        self.identities[address] = key
        return before != key

    def load_identity(self, address: Address) -> PublicKey | None:
        return self.identities.get(address)

    def load_session(self, address: Address) -> SessionRecord | None:
        return self.sessions.get(address)

    def store_session(self, address: Address, record: SessionRecord) -> None:
        self.sessions[address] = record

    def load_pre_key(self, key_id: int) -> PreKey:
        return _found(self.pre_keys, key_id, "one-time")

    def store_pre_key(self, pre_key: PreKey) -> None:
        self.pre_keys[pre_key.key_id] = pre_key

    def remove_pre_key(self, key_id: int) -> None:
        self.pre_keys.pop(key_id, None)

    def load_signed_pre_key(self, key_id: int) -> SignedPreKey:
        return _found(self.signed_pre_keys, key_id, "signed")

    def store_signed_pre_key(self, pre_key: SignedPreKey) -> None:
        self.signed_pre_keys[pre_key.key_id] = pre_key

    def load_kyber_pre_key(self, key_id: int) -> KyberPreKey:
        return _found(self.kyber_pre_keys, key_id, "Kyber")

    def store_kyber_pre_key(self, pre_key: KyberPreKey) -> None:
        self.kyber_pre_keys[pre_key.key_id] = pre_key

    def mark_kyber_pre_key_used(
        self, key_id: int, signed_pre_key_id: int, base_key: PublicKey
    ) -> None:
        if not self.kyber_pre_keys[key_id].last_resort:
            del self.kyber_pre_keys[key_id]
            return
        use = (key_id, signed_pre_key_id, base_key)
        if use in self.used_base_keys:
            raise DuplicateMessage("This first message was already used to start a session.")
        self.used_base_keys.add(use)


def _found(keys: dict[int, _Key], key_id: int, kind: str) -> _Key:
    try:
        return keys[key_id]
    except KeyError:
        raise UnknownPreKey(f"There is no {kind} pre-key {key_id} on this device.") from None
