"""The Double Ratchet: a fresh key for every message, healed at every change of direction.

Specification: "The Double Ratchet Algorithm", revision 3, sections 2 and 3, with the numbers
and labels of Signal's messages:

    root key     root', chain   = HKDF(salt root, DH, "WhisperRatchet")
    chain key    seed           = HMAC(chain, 01), chain' = HMAC(chain, 02)
    message key  AES | MAC | IV = HKDF(salt pq_salt, seed, "WhisperMessageKeys")

Choices within the specification:

* A new ratchet key pair is made when a message of a new chain has been read and found genuine
  (`prepare`), as section 3.5 has it. Deferring it until we send (section 8.5) would shorten its
  life a little, and double the time it takes to encrypt the first message of every turn.
* For a skipped message its *seed* is kept, since the salt of its message key may only be known
  when it comes. 2,000 seeds per chain, the oldest dropped first (section 8.4).
* A message may be 25,000 ahead of its chain, for every peer (also for another device of the
  same account). That bounds the work a forged counter can cause to 25,000 HMACs.

Objects are cheap to copy: chains and seeds are immutable and only their holder changes, which
is how a trial decryption is undone.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple, NewType, Self

from raychat.crypto.cbc import cbc_decrypt, cbc_encrypt
from raychat.crypto.curve import PREFIX, KeyPair, PrivateKey, PublicKey
from raychat.crypto.kdf import hkdf
from raychat.crypto.skipped import ENTRY_BYTES, NO_KEYS, SkippedKeys, entry
from raychat.errors import DuplicateMessage, InvalidMessage, TooFarAhead
from raychat.limits import RECEIVER_CHAINS, SKIP_AHEAD, SKIPPED_KEYS

_LAST_COUNTER: Final = 0xFFFF_FFFF

# Stored form: root, previous counter, whether there is a sender chain, number of receiver chains.
_HEAD: Final = struct.Struct(">32sI?B")
# Ratchet private and public key, chain key, counter.
_SENDER: Final = struct.Struct(">32s33s32sI")
# Ratchet public key, chain key, counter, number of skipped seeds, which follow. `Ratchet.read`
# relies on where the first and the last of these are.
_RECEIVER: Final = struct.Struct(">33s32sIH")


class MessageKeys(NamedTuple):
    """The three keys of one message."""

    aes: bytes
    mac: bytes
    iv: bytes

    @classmethod
    def derive(cls, seed: bytes, pq_salt: bytes | None) -> Self:
        """`pq_salt` is the post-quantum ratchet's key for the same message, None without one."""
        keys = hkdf(seed, b"WhisperMessageKeys", 80, pq_salt)
        return cls(keys[:32], keys[32:64], keys[64:])

    def encrypt(self, plaintext: bytes) -> bytes:
        return cbc_encrypt(self.aes, self.iv, plaintext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises InvalidMessage. Only call it on a ciphertext whose MAC has been verified."""
        return cbc_decrypt(self.aes, self.iv, ciphertext)

    def __repr__(self) -> str:
        return "MessageKeys(…)"


class ChainKey(NamedTuple):
    """One step of a chain: the key from which the seed of message `counter` is made."""

    key: bytes
    counter: int

    def seed(self) -> bytes:
        return hmac.digest(self.key, b"\x01", "sha256")

    def next(self) -> ChainKey:
        return ChainKey(hmac.digest(self.key, b"\x02", "sha256"), self.counter + 1)

    def __repr__(self) -> str:
        return f"ChainKey(counter={self.counter})"


StoredChain = NewType("StoredChain", bytes)
"""A ReceiverChain as bytes, which begin with its ratchet key."""


class ReceiverChain(NamedTuple):
    """The messages the peer sends under one of its ratchet keys."""

    ratchet_key: PublicKey
    chain: ChainKey
    skipped: SkippedKeys = NO_KEYS

    def taken(self, counter: int, most: int = SKIP_AHEAD) -> tuple[bytes, ReceiverChain]:
        """The seed of message `counter`, and the chain from which it can't be had again.

        Raises DuplicateMessage if it was taken before (or its seed dropped), TooFarAhead if
        it is more than `most` messages ahead.
        """
        chain = self.chain
        ahead = counter - chain.counter
        if ahead < 0:
            found = self.skipped.taken(counter)
            if found is None:
                raise DuplicateMessage
            seed, rest = found
            return seed, self._replace(skipped=rest)
        if ahead > most:
            raise TooFarAhead
        skipped = self.skipped
        if ahead:
            # Seeds that the limit would drop at once are not worth making.
            for _ in range(ahead - SKIPPED_KEYS):
                chain = chain.next()
            entries = []
            while chain.counter < counter:
                entries.append(entry(chain.counter, chain.seed()))
                chain = chain.next()
            skipped = skipped.added(b"".join(entries))
        return chain.seed(), ReceiverChain(self.ratchet_key, chain.next(), skipped)

    def to_bytes(self) -> StoredChain:
        ratchet_key, (key, counter), skipped = self
        head = _RECEIVER.pack(ratchet_key.data, key, counter, len(skipped))
        return StoredChain(head + skipped.data)

    @classmethod
    def from_bytes(cls, data: StoredChain) -> Self:
        public, key, counter, count = _RECEIVER.unpack_from(data)
        skipped = SkippedKeys(data[_RECEIVER.size :]) if count else NO_KEYS
        return cls(PublicKey(public), ChainKey(key, counter), skipped)

    def __repr__(self) -> str:
        return f"ReceiverChain({self.ratchet_key}, {self.chain}, {self.skipped})"


class SenderChain(NamedTuple):
    """The messages we send under one ratchet key pair of our own."""

    pair: KeyPair
    chain: ChainKey


class Outgoing(NamedTuple):
    """What the next message to send is made of."""

    ratchet_key: PublicKey
    counter: int
    previous_counter: int
    seed: bytes

    def __repr__(self) -> str:
        return f"Outgoing({self.ratchet_key}, counter={self.counter})"


@dataclass(slots=True, repr=False)
class Ratchet:
    """The state of one side.

    `sender` is None from the moment a new ratchet key of the peer was taken up until `prepare`:
    the last of `receivers`, newest last, is then the key to answer to. They are kept as they
    are stored, since a message needs at most one of them.
    """

    root: bytes
    sender: SenderChain | None
    receivers: tuple[StoredChain, ...]
    previous_counter: int = 0

    @classmethod
    def initiator(cls, root: bytes, chain: bytes, their_signed_pre_key: PublicKey) -> Self:
        """Ready to send, by a first ratchet step towards the peer's signed pre-key."""
        first = ReceiverChain(their_signed_pre_key, ChainKey(chain, 0))
        return cls(root, None, (first.to_bytes(),))

    @classmethod
    def responder(cls, root: bytes, chain: bytes, signed_pre_key: KeyPair) -> Self:
        """Ready to receive: the signed pre-key serves as the first ratchet key."""
        return cls(root, SenderChain(signed_pre_key, ChainKey(chain, 0)), ())

    def copy(self) -> Ratchet:
        return Ratchet(self.root, self.sender, self.receivers, self.previous_counter)

    def send(self) -> Outgoing:
        """Step to the next message to send. Raises TooFarAhead at the end of a chain."""
        sender = self.sender or self.prepare()
        chain = sender.chain
        if chain.counter == _LAST_COUNTER:
            raise TooFarAhead("The chain is used up; start a new session.")
        self.sender = SenderChain(sender.pair, chain.next())
        return Outgoing(sender.pair.public, chain.counter, self.previous_counter, chain.seed())

    def prepare(self) -> SenderChain:
        """Make the key pair for our next chain, unless it is there."""
        if self.sender is None:
            pair = KeyPair.generate()
            theirs = ReceiverChain.from_bytes(self.receivers[-1]).ratchet_key
            self.root, chain = self._step(pair, theirs)
            self.sender = SenderChain(pair, chain)
        return self.sender

    def knows(self, ratchet_key: PublicKey) -> bool:
        """Whether messages under this key have been received. If so they belong here only."""
        return any(stored.startswith(ratchet_key.data) for stored in self.receivers)

    def receive(self, ratchet_key: PublicKey, counter: int, most: int = SKIP_AHEAD) -> bytes:
        """Step to a received message and return its seed; afterwards it can't be had again.

        `most` is how many messages it may skip. Raises DuplicateMessage, TooFarAhead,
        InvalidMessage or InvalidKey, and may then have changed: call it on a copy.
        """
        receivers = self.receivers
        for place, stored in enumerate(receivers):
            if stored.startswith(ratchet_key.data):
                seed, after = ReceiverChain.from_bytes(stored).taken(counter, most)
                self.receivers = (*receivers[:place], after.to_bytes(), *receivers[place + 1 :])
                return seed
        if self.sender is None:
            # The peer answers to a ratchet key of ours, and it has seen none since its last.
            raise InvalidMessage("The message is of a chain that cannot exist.")
        self.root, chain = self._step(self.sender.pair, ratchet_key)
        self.previous_counter = max(self.sender.chain.counter - 1, 0)
        self.sender = None
        seed, after = ReceiverChain(ratchet_key, chain).taken(counter, most)
        self.receivers = (*receivers[1 - RECEIVER_CHAINS :], after.to_bytes())
        return seed

    def _step(self, ours: KeyPair, theirs: PublicKey) -> tuple[bytes, ChainKey]:
        keys = hkdf(ours.private.agree(theirs), b"WhisperRatchet", 64, self.root)
        return keys[:32], ChainKey(keys[32:], 0)

    def to_bytes(self) -> bytes:
        sender = self.sender
        parts = [
            _HEAD.pack(self.root, self.previous_counter, sender is not None, len(self.receivers))
        ]
        if sender is not None:
            pair, chain = sender
            parts.append(
                _SENDER.pack(pair.private.data, pair.public.data, chain.key, chain.counter)
            )
        return b"".join((*parts, *self.receivers))

    @classmethod
    def read(cls, data: bytes, at: int) -> tuple[Self, int]:
        """The ratchet stored at offset `at`, and the offset after it.

        Raises struct.error or InvalidKey for damaged bytes.
        """
        root, previous_counter, has_sender, chains = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        sender = None
        if has_sender:
            private, public, key, counter = _SENDER.unpack_from(data, at)
            at += _SENDER.size
            pair = KeyPair(PrivateKey(private), PublicKey(public))
            sender = SenderChain(pair, ChainKey(key, counter))
        receivers = []
        for _ in range(chains):
            start, at = at, at + _RECEIVER.size
            at += ENTRY_BYTES * int.from_bytes(data[at - 2 : at], "big")
            if at > len(data) or data[start] != PREFIX:
                raise struct.error("a chain is cut off")
            receivers.append(StoredChain(data[start:at]))
        if sender is None and not receivers:
            raise struct.error("there is neither a key to send nor one to answer to")
        return cls(root, sender, tuple(receivers), previous_counter), at

    def __repr__(self) -> str:
        receivers = [ReceiverChain.from_bytes(stored) for stored in self.receivers]
        return f"Ratchet({self.sender}, {receivers=})"
