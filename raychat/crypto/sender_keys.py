"""The keys of a group's senders: each member has one, and gives it to all the others.

    chain        seed = HMAC(chain, 01), chain' = HMAC(chain, 02), as in the Double Ratchet
    message key  IV | AES = HKDF(no salt, seed, "WhisperGroup")

`SendingKey` is our own key in one group; `SenderKeyRecord` holds the keys another device has
given us for a group, newest first, since messages under an old one may still be under way.
Both are immutable: a step returns a new object, so a refused message leaves no trace.

What sender keys don't give (Balbás, Collins, Gajland, eprint 2023/1385): a chain is hashed
forward but never healed, so who once saw a chain key reads everything until the key is
replaced. That is why `SendingKey.is_due` limits its age and its messages.

Keys are looked up in time that depends on chain ids and counters, which anybody can see. What
is done with the keys themselves is OpenSSL's and libsodium's; Python cannot wipe them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

from raychat.crypto.cbc import cbc_decrypt, cbc_encrypt
from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.crypto.group_message import DistributionId, SenderKeyDistribution, SenderKeyMessage
from raychat.crypto.kdf import hkdf
from raychat.crypto.ratchet import ChainKey, ReceiverChain
from raychat.crypto.skipped import ENTRY_BYTES, SkippedKeys
from raychat.errors import CryptoError, StoreError, StoreTooNew
from raychat.ids import Address
from raychat.limits import SENDER_KEY_DAYS, SENDER_KEY_MESSAGES, SENDER_KEY_STATES

_DAY_MS: Final = 86_400_000
_FORMAT: Final = 1
_SENDING: Final = struct.Struct(">BII32s32s33sQ")
_RECORD: Final = struct.Struct(">BB")
# Chain id, signing key, chain key, iteration, number of skipped seeds (which follow).
_STATE: Final = struct.Struct(">I33s32sIH")


class GroupMessageKeys(NamedTuple):
    """The two keys of one message. There is no MAC: the signature is what must be checked."""

    iv: bytes
    aes: bytes

    @classmethod
    def derive(cls, seed: bytes) -> Self:
        keys = hkdf(seed, b"WhisperGroup", 48)
        return cls(keys[:16], keys[16:])

    def encrypt(self, plaintext: bytes) -> bytes:
        return cbc_encrypt(self.aes, self.iv, plaintext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises InvalidMessage. Only call it once the signature has been verified."""
        return cbc_decrypt(self.aes, self.iv, ciphertext)

    def __repr__(self) -> str:
        return "GroupMessageKeys(…)"


@dataclass(frozen=True, slots=True)
class SendingKey:
    """Our own key in one group. `created` is in milliseconds since 1970."""

    chain_id: int
    chain: ChainKey
    pair: KeyPair
    created: int

    @classmethod
    def generate(cls, now: int) -> Self:
        chain_id = int.from_bytes(os.urandom(4), "big") >> 1
        return cls(chain_id, ChainKey(os.urandom(32), 0), KeyPair.generate(), now)

    def is_due(self, now: int) -> bool:
        """Whether the key has served long enough and another must take its place."""
        return (
            self.chain.counter >= SENDER_KEY_MESSAGES
            or now - self.created >= SENDER_KEY_DAYS * _DAY_MS
        )

    def next(self) -> SendingKey:
        return SendingKey(self.chain_id, self.chain.next(), self.pair, self.created)

    def distribution(self, distribution: DistributionId) -> SenderKeyDistribution:
        """What opens our messages from the next one on."""
        key, iteration = self.chain
        return SenderKeyDistribution(distribution, self.chain_id, iteration, key, self.pair.public)

    def seal(self, distribution: DistributionId, plaintext: bytes) -> SenderKeyMessage:
        """The next message. Never seal two with the same state: go on with `next`."""
        return SenderKeyMessage.seal(
            distribution=distribution,
            chain_id=self.chain_id,
            iteration=self.chain.counter,
            ciphertext=GroupMessageKeys.derive(self.chain.seed()).encrypt(plaintext),
            signing_key=self.pair.private,
        )

    def to_bytes(self) -> bytes:
        return _SENDING.pack(
            _FORMAT,
            self.chain_id,
            self.chain.counter,
            self.chain.key,
            self.pair.private.data,
            self.pair.public.data,
            self.created,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError."""
        _check_format(data)
        try:
            _, chain_id, counter, key, private, public, created = _SENDING.unpack(data)
            pair = KeyPair(PrivateKey(private), PublicKey(public))
        except (struct.error, CryptoError):
            raise StoreError("A stored sending key is damaged.") from None
        return cls(chain_id, ChainKey(key, counter), pair, created)


class SenderKeyState(NamedTuple):
    """One key of another device. Its chain is named by the key that signs its messages."""

    chain_id: int
    chain: ReceiverChain

    @property
    def signing_key(self) -> PublicKey:
        return self.chain.ratchet_key

    def taken(self, iteration: int) -> tuple[GroupMessageKeys, SenderKeyState]:
        """The keys of one message, and the state from which they can't be had again.

        Raises DuplicateMessage, TooFarAhead.
        """
        seed, after = self.chain.taken(iteration)
        return GroupMessageKeys.derive(seed), SenderKeyState(self.chain_id, after)


@dataclass(frozen=True, slots=True)
class SenderKeyRecord:
    """All keys of one device in one group, newest first."""

    states: tuple[SenderKeyState, ...] = ()

    def find(self, chain_id: int) -> SenderKeyState | None:
        return next((state for state in self.states if state.chain_id == chain_id), None)

    def added(self, given: SenderKeyDistribution) -> SenderKeyRecord:
        """With the key of a distribution as the newest.

        A key that is here already stays as it is: taking the chain back to an earlier message
        would let messages be read twice. Another signing key under the same chain id takes
        the place of the old one.
        """
        known = self.find(given.chain_id)
        if known is not None and known.signing_key == given.signing_key:
            return self
        chain = ReceiverChain(given.signing_key, ChainKey(given.chain_key, given.iteration))
        others = (state for state in self.states if state is not known)
        states = (SenderKeyState(given.chain_id, chain), *others)
        return SenderKeyRecord(states[:SENDER_KEY_STATES])

    def updated(self, after: SenderKeyState) -> SenderKeyRecord:
        """With the state of the same chain id replaced."""
        return SenderKeyRecord(
            tuple(after if state.chain_id == after.chain_id else state for state in self.states)
        )

    def to_bytes(self) -> bytes:
        parts = [_RECORD.pack(_FORMAT, len(self.states))]
        for chain_id, (signing_key, (key, iteration), skipped) in self.states:
            parts.append(_STATE.pack(chain_id, signing_key.data, key, iteration, len(skipped)))
            parts.append(skipped.data)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError."""
        _check_format(data)
        states = []
        try:
            _, count = _RECORD.unpack_from(data)
            at = _RECORD.size
            for _ in range(count):
                chain_id, signing_key, key, iteration, seeds = _STATE.unpack_from(data, at)
                at += _STATE.size
                end = at + seeds * ENTRY_BYTES
                skipped, at = SkippedKeys(data[at:end]), end
                chain = ReceiverChain(PublicKey(signing_key), ChainKey(key, iteration), skipped)
                states.append(SenderKeyState(chain_id, chain))
        except (struct.error, CryptoError):
            raise StoreError("A stored sender key is damaged.") from None
        if at != len(data):
            raise StoreError("A stored sender key is damaged.")
        return cls(tuple(states))


class SenderKeyStore(Protocol):
    """Where a device keeps its own and its peers' sender keys.

    Like the stores of `stores.py`: synchronous, written to last, one call of the cipher in one
    transaction. Who holds our key is kept apart from the key: the one changes rarely and may be
    long, the other changes with each message.
    """

    def load_sending_key(self, distribution: DistributionId) -> SendingKey | None: ...

    def store_sending_key(self, distribution: DistributionId, key: SendingKey) -> None: ...

    def load_holders(self, distribution: DistributionId) -> frozenset[Address]:
        """The devices that were given our current key; empty if there is none."""
        ...

    def store_holders(self, distribution: DistributionId, holders: frozenset[Address]) -> None: ...

    def load_sender_key(
        self, sender: Address, distribution: DistributionId
    ) -> SenderKeyRecord | None: ...

    def store_sender_key(
        self, sender: Address, distribution: DistributionId, record: SenderKeyRecord
    ) -> None: ...


class MemorySenderKeyStore:
    """A SenderKeyStore that forgets everything with the process: for tests and short tools."""

    def __init__(self) -> None:
        self.sending_keys: dict[DistributionId, SendingKey] = {}
        self.holders: dict[DistributionId, frozenset[Address]] = {}
        self.sender_keys: dict[tuple[Address, DistributionId], SenderKeyRecord] = {}

    def load_sending_key(self, distribution: DistributionId) -> SendingKey | None:
        return self.sending_keys.get(distribution)

    def store_sending_key(self, distribution: DistributionId, key: SendingKey) -> None:
        self.sending_keys[distribution] = key

    def load_holders(self, distribution: DistributionId) -> frozenset[Address]:
        return self.holders.get(distribution, frozenset())

    def store_holders(self, distribution: DistributionId, holders: frozenset[Address]) -> None:
        self.holders[distribution] = holders

    def load_sender_key(
        self, sender: Address, distribution: DistributionId
    ) -> SenderKeyRecord | None:
        return self.sender_keys.get((sender, distribution))

    def store_sender_key(
        self, sender: Address, distribution: DistributionId, record: SenderKeyRecord
    ) -> None:
        self.sender_keys[sender, distribution] = record


def _check_format(data: bytes) -> None:
    if data and data[0] > _FORMAT:
        raise StoreTooNew
    if not data or data[0] != _FORMAT:
        raise StoreError("A stored sender key is damaged.")
