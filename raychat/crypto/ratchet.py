"""The Double Ratchet: a fresh key for every message, healed at every change of direction.

Specification: "The Double Ratchet Algorithm", revision 3, sections 2 and 3, with the numbers
and labels of Signal's messages:

    root key     root', chain   = HKDF(salt root, DH, "WhisperRatchet")
    chain key    seed           = HMAC(chain, 01), chain' = HMAC(chain, 02)
    message key  AES | MAC | IV = HKDF(salt pq_salt, seed, "WhisperMessageKeys")

Choices within the specification:

* A new ratchet key pair is made when sending, not when receiving (section 8.5): a private key
  then lives for a shorter time, and reading many messages costs one DH less per turn.
* For a skipped message its *seed* is kept, since the salt of its message key may only be known
  when it comes. 2,000 seeds per chain, the oldest dropped first (section 8.4).
* A message may be 25,000 ahead of its chain, for every peer. That bounds the work a forged
  counter can cause to 25,000 HMACs.

Objects are cheap to copy: chains and seeds are immutable and only their holder changes, which
is how a trial decryption is undone.
"""

from __future__ import annotations

import hmac
import struct
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.crypto.kdf import hkdf
from raychat.errors import DuplicateMessage, InvalidMessage, TooFarAhead
from raychat.limits import RECEIVER_CHAINS, SKIP_AHEAD, SKIPPED_KEYS

_BLOCK: Final = 16
_LAST_COUNTER: Final = 0xFFFF_FFFF
_ENTRY: Final = 4 + 32

# Stored form: root, previous counter, whether there is a sender chain, number of receiver chains.
_HEAD: Final = struct.Struct(">32sI?B")
# Ratchet private and public key, chain key, counter.
_SENDER: Final = struct.Struct(">32s33s32sI")
# Ratchet public key, chain key, counter, number of skipped seeds (which follow).
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
        """AES-256-CBC with PKCS #7 padding."""
        padding = _BLOCK - len(plaintext) % _BLOCK
        encryptor = Cipher(AES(self.aes), CBC(self.iv)).encryptor()
        return encryptor.update(plaintext + bytes((padding,)) * padding) + encryptor.finalize()

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises InvalidMessage. Only call it on a ciphertext whose MAC has been verified."""
        if not ciphertext or len(ciphertext) % _BLOCK:
            raise InvalidMessage("The ciphertext is not a whole number of blocks.")
        decryptor = Cipher(AES(self.aes), CBC(self.iv)).decryptor()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        padding = padded[-1]
        if not 1 <= padding <= _BLOCK or padded[-padding:] != bytes((padding,)) * padding:
            raise InvalidMessage("The padding of the message is damaged.")
        return padded[:-padding]

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


@dataclass(frozen=True, slots=True, repr=False)
class SkippedSeeds:
    """Seeds of messages that have not come yet, in the form they are stored in.

    `data` is a row of entries (counter u32, seed 32 bytes) in rising order of the counter, so
    that loading costs nothing and looking one up is a binary search.
    """

    data: bytes = b""

    def __len__(self) -> int:
        return len(self.data) // _ENTRY

    def added(self, entries: bytes) -> SkippedSeeds:
        """With more entries at the end; the oldest give way beyond the limit."""
        return SkippedSeeds((self.data + entries)[-SKIPPED_KEYS * _ENTRY :])

    def taken(self, counter: int) -> tuple[bytes, SkippedSeeds] | None:
        """The seed of message `counter` and the rest without it; None if it is not here."""
        place = bisect_left(range(len(self)), counter, key=self._counter) * _ENTRY
        entry = self.data[place : place + _ENTRY]
        if entry[:4] != counter.to_bytes(4, "big"):
            return None
        return entry[4:], SkippedSeeds(self.data[:place] + self.data[place + _ENTRY :])

    def _counter(self, place: int) -> int:
        return int.from_bytes(self.data[place * _ENTRY : place * _ENTRY + 4], "big")

    def __repr__(self) -> str:
        return f"SkippedSeeds({len(self)})"


_NO_SEEDS: Final = SkippedSeeds()


class ReceiverChain(NamedTuple):
    """The messages the peer sends under one of its ratchet keys."""

    ratchet_key: PublicKey
    chain: ChainKey
    skipped: SkippedSeeds = _NO_SEEDS

    def taken(self, counter: int) -> tuple[bytes, ReceiverChain]:
        """The seed of message `counter`, and the chain from which it can't be had again.

        Raises DuplicateMessage if it was taken before (or its seed dropped), TooFarAhead if
        it is more than SKIP_AHEAD messages ahead.
        """
        chain = self.chain
        ahead = counter - chain.counter
        if ahead < 0:
            found = self.skipped.taken(counter)
            if found is None:
                raise DuplicateMessage
            seed, rest = found
            return seed, self._replace(skipped=rest)
        if ahead > SKIP_AHEAD:
            raise TooFarAhead
        skipped = self.skipped
        if ahead:
            # Seeds that the limit would drop at once are not worth making.
            for _ in range(ahead - SKIPPED_KEYS):
                chain = chain.next()
            entries = []
            while chain.counter < counter:
                entries.append(chain.counter.to_bytes(4, "big") + chain.seed())
                chain = chain.next()
            skipped = skipped.added(b"".join(entries))
        return chain.seed(), ReceiverChain(self.ratchet_key, chain.next(), skipped)

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

    `sender` is None from the moment a new ratchet key of the peer was taken up until we send
    again: the last of `receivers`, newest last, is then the key to answer to.
    """

    root: bytes
    sender: SenderChain | None
    receivers: tuple[ReceiverChain, ...]
    previous_counter: int = 0

    @classmethod
    def initiator(cls, root: bytes, chain: bytes, their_signed_pre_key: PublicKey) -> Self:
        """Ready to send, by a first ratchet step towards the peer's signed pre-key."""
        return cls(root, None, (ReceiverChain(their_signed_pre_key, ChainKey(chain, 0)),))

    @classmethod
    def responder(cls, root: bytes, chain: bytes, signed_pre_key: KeyPair) -> Self:
        """Ready to receive: the signed pre-key serves as the first ratchet key."""
        return cls(root, SenderChain(signed_pre_key, ChainKey(chain, 0)), ())

    def copy(self) -> Ratchet:
        return Ratchet(self.root, self.sender, self.receivers, self.previous_counter)

    def send(self) -> Outgoing:
        """Step to the next message to send. Raises TooFarAhead at the end of a chain."""
        sender = self.sender
        if sender is None:
            pair = KeyPair.generate()
            self.root, chain = self._step(pair, self.receivers[-1].ratchet_key)
            sender = SenderChain(pair, chain)
        chain = sender.chain
        if chain.counter == _LAST_COUNTER:
            raise TooFarAhead("The chain is used up; start a new session.")
        self.sender = SenderChain(sender.pair, chain.next())
        return Outgoing(sender.pair.public, chain.counter, self.previous_counter, chain.seed())

    def receive(self, ratchet_key: PublicKey, counter: int) -> bytes:
        """Step to a received message and return its seed; afterwards it can't be had again.

        Raises DuplicateMessage, TooFarAhead, InvalidMessage or InvalidKey, and may then have
        changed: call it on a copy.
        """
        for place, receiver in enumerate(self.receivers):
            if receiver.ratchet_key == ratchet_key:
                seed, after = receiver.taken(counter)
                self.receivers = (*self.receivers[:place], after, *self.receivers[place + 1 :])
                return seed
        if self.sender is None:
            # The peer answers to a ratchet key of ours, and it has seen none since its last.
            raise InvalidMessage("The message is of a chain that cannot exist.")
        self.root, chain = self._step(self.sender.pair, ratchet_key)
        self.previous_counter = max(self.sender.chain.counter - 1, 0)
        self.sender = None
        seed, after = ReceiverChain(ratchet_key, chain).taken(counter)
        self.receivers = (*self.receivers[1 - RECEIVER_CHAINS :], after)
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
        for ratchet_key, chain, skipped in self.receivers:
            parts.append(_RECEIVER.pack(ratchet_key.data, chain.key, chain.counter, len(skipped)))
            parts.append(skipped.data)
        return b"".join(parts)

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
            public, key, counter, count = _RECEIVER.unpack_from(data, at)
            at += _RECEIVER.size
            end = at + count * _ENTRY
            skipped = SkippedSeeds(data[at:end])
            if len(skipped) != count:
                raise struct.error("the skipped seeds are cut off")
            at = end
            receivers.append(ReceiverChain(PublicKey(public), ChainKey(key, counter), skipped))
        return cls(root, sender, tuple(receivers), previous_counter), at

    def __repr__(self) -> str:
        return f"Ratchet({self.sender}, receivers={list(self.receivers)})"
