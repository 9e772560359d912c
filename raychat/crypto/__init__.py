"""End-to-end encryption between two devices: PQXDH and the Double Ratchet.

Start with `SessionCipher`. An independent implementation, byte-compatible with messages of
version 4 of the Signal protocol. The client uses all of it; of the server only the key and
group rooms do, to check signatures with `PublicKey.verify`.
"""

from __future__ import annotations

from raychat.crypto.cipher import IdentityChange, Opened, SessionCipher
from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.crypto.kem import KemPrivateKey, KemPublicKey
from raychat.crypto.message import CiphertextMessage, MessageKind
from raychat.crypto.prekeys import (
    IdentityKeyPair,
    KyberPreKey,
    PreKey,
    PreKeyBundle,
    SignedPreKey,
)
from raychat.crypto.session import SessionRecord
from raychat.crypto.stores import (
    Direction,
    IdentityStore,
    KyberPreKeyStore,
    MemoryStore,
    PreKeyStore,
    ProtocolStore,
    SessionStore,
    SignedPreKeyStore,
)

__all__ = [
    "CiphertextMessage",
    "Direction",
    "IdentityChange",
    "IdentityKeyPair",
    "IdentityStore",
    "KemPrivateKey",
    "KemPublicKey",
    "KeyPair",
    "KyberPreKey",
    "KyberPreKeyStore",
    "MemoryStore",
    "MessageKind",
    "Opened",
    "PreKey",
    "PreKeyBundle",
    "PreKeyStore",
    "PrivateKey",
    "ProtocolStore",
    "PublicKey",
    "SessionCipher",
    "SessionRecord",
    "SessionStore",
    "SignedPreKey",
    "SignedPreKeyStore",
]
