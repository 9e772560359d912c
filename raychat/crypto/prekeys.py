"""The keys a device publishes so that others can write to it while it is offline.

Specification: "The PQXDH Key Agreement Protocol", section 3.2. A device has one identity key
pair; it signs a medium-term X25519 pre-key and Kyber pre-keys with it, and adds one-time
X25519 pre-keys. The key server hands out one of each as a `PreKeyBundle`.

The records (`PreKey`, `SignedPreKey`, `KyberPreKey`) hold private keys and stay on the device;
`to_bytes` is for its own store. What is published of a record is `key_id`, `public` and
`signature`. Key ids are unsigned 32-bit numbers of the device's choice; times are in milliseconds
since 1970.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.crypto.kem import KemPrivateKey, KemPublicKey
from raychat.errors import InvalidKey, StoreError, StoreTooNew

_FORMAT: Final = 1
_PRE_KEY: Final = struct.Struct(">BI32s")
_SIGNED: Final = struct.Struct(">BIQ32s64s")
_KYBER: Final = struct.Struct(">BIQB64s64s")


@dataclass(frozen=True, slots=True)
class IdentityKeyPair(KeyPair):
    """The long-term key pair by which a device is known to its peers."""

    def to_bytes(self) -> bytes:
        """The 32-byte private key; the public one follows from it."""
        return self.private.data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        return cls.of(PrivateKey(data))


@dataclass(frozen=True, slots=True)
class PreKey:
    """A one-time X25519 pre-key."""

    key_id: int
    pair: KeyPair

    @classmethod
    def generate(cls, key_id: int) -> Self:
        return cls(key_id, KeyPair.generate())

    @property
    def public(self) -> PublicKey:
        return self.pair.public

    def to_bytes(self) -> bytes:
        return _PRE_KEY.pack(_FORMAT, self.key_id, self.pair.private.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError."""
        _check(data, _PRE_KEY)
        _, key_id, private = _PRE_KEY.unpack(data)
        return cls(key_id, KeyPair.of(PrivateKey(private)))


@dataclass(frozen=True, slots=True)
class SignedPreKey:
    """A medium-term X25519 pre-key, signed by the identity key over its 33 bytes."""

    key_id: int
    pair: KeyPair
    signature: bytes
    created: int

    @classmethod
    def generate(cls, identity: IdentityKeyPair, key_id: int, now: int) -> Self:
        pair = KeyPair.generate()
        return cls(key_id, pair, identity.private.sign(pair.public.data), now)

    @property
    def public(self) -> PublicKey:
        return self.pair.public

    def to_bytes(self) -> bytes:
        return _SIGNED.pack(
            _FORMAT, self.key_id, self.created, self.pair.private.data, self.signature
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError."""
        _check(data, _SIGNED)
        _, key_id, created, private, signature = _SIGNED.unpack(data)
        return cls(key_id, KeyPair.of(PrivateKey(private)), signature, created)


@dataclass(frozen=True, slots=True)
class KyberPreKey:
    """A Kyber1024 pre-key, signed by the identity key over its 1569 bytes.

    A one-time key is deleted when used. The last-resort key is handed out when no one-time
    key is left, and serves many sessions until it is replaced.
    """

    key_id: int
    private: KemPrivateKey
    public: KemPublicKey
    signature: bytes
    created: int
    last_resort: bool

    @classmethod
    def generate(
        cls, identity: IdentityKeyPair, key_id: int, now: int, *, last_resort: bool = False
    ) -> Self:
        private = KemPrivateKey.generate()
        public = private.public_key()
        signature = identity.private.sign(public.data)
        return cls(key_id, private, public, signature, now, last_resort)

    def to_bytes(self) -> bytes:
        return _KYBER.pack(
            _FORMAT,
            self.key_id,
            self.created,
            self.last_resort,
            self.private.seed,
            self.signature,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError."""
        _check(data, _KYBER)
        _, key_id, created, last_resort, seed, signature = _KYBER.unpack(data)
        private = KemPrivateKey(seed)
        return cls(key_id, private, private.public_key(), signature, created, bool(last_resort))


@dataclass(frozen=True, slots=True)
class PreKeyBundle:
    """What the key server hands out to start one session with one device.

    Nothing in it can be trusted before `verify`; starting a session calls it. `pre_key_id` and
    `pre_key` are None when the server had no one-time key left.
    """

    registration_id: int
    identity_key: PublicKey
    signed_pre_key_id: int
    signed_pre_key: PublicKey
    signed_pre_key_signature: bytes
    kyber_pre_key_id: int
    kyber_pre_key: KemPublicKey
    kyber_pre_key_signature: bytes
    pre_key_id: int | None = None
    pre_key: PublicKey | None = None

    def __post_init__(self) -> None:
        if (self.pre_key_id is None) is not (self.pre_key is None):
            raise InvalidKey("A one-time pre-key comes with its id or not at all.")
        ids = (self.signed_pre_key_id, self.kyber_pre_key_id, self.pre_key_id or 0)
        if not all(0 <= key_id <= 0xFFFF_FFFF for key_id in (self.registration_id, *ids)):
            raise InvalidKey("An id in the bundle does not fit in 32 bits.")

    def verify(self) -> None:
        """Check both signatures of the identity key. Raises BadSignature."""
        self.identity_key.verify(self.signed_pre_key.data, self.signed_pre_key_signature)
        self.identity_key.verify(self.kyber_pre_key.data, self.kyber_pre_key_signature)


def _check(data: bytes, layout: struct.Struct) -> None:
    if data and data[0] > _FORMAT:
        raise StoreTooNew
    if len(data) != layout.size or data[0] != _FORMAT:
        raise StoreError("A stored pre-key is damaged.")
