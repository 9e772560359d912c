"""The sparse post-quantum ratchet, version 1: a salt for the keys of every message.

Specification: "The Double Ratchet Algorithm", revision 3, sections 5 and 6 (Triple Ratchet);
"The ML-KEM Braid Protocol". The Braid agrees on epoch secrets, the chains turn them into a key
for each message, and the session uses that key as the salt when it derives its message keys. To
read a message one must then break both ratchets.

Version 1 is the only one spoken. A peer that could also do without this ratchet (libsignal
before 0.92) sends its first messages, until it has heard from us, under counter 0: it salts them
with nothing. They are accepted under the handshake's epoch only, and only by the side that did
not begin the session.

A `PostQuantumRatchet` never changes; it is stored as laid out in `to_bytes`.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from raychat.crypto.spqr import states, storage
from raychat.crypto.spqr.chains import Chains
from raychat.crypto.spqr.message import BraidMessage
from raychat.crypto.spqr.states import State
from raychat.errors import StoreError
from raychat.limits import SKIP_AHEAD


class Salted(NamedTuple):
    """The ratchet after a step, the field that was written, and the salt of its message."""

    ratchet: PostQuantumRatchet
    field: bytes
    salt: bytes

    def __repr__(self) -> str:
        return f"Salted({self.ratchet})"


class PostQuantumRatchet(NamedTuple):
    """One side of one session."""

    state: State
    chains: Chains

    @classmethod
    def initiator(cls, secret: bytes) -> Self:
        """For the side that begins a session; `secret` is `SharedSecrets.pq_auth`."""
        return cls(states.initiator(secret), Chains.begun(secret, began=True))

    @classmethod
    def responder(cls, secret: bytes) -> Self:
        return cls(states.responder(secret), Chains.begun(secret, began=False))

    @property
    def epoch(self) -> int:
        """The epoch whose key is being exchanged, from 1."""
        return self.state.epoch

    def send(self) -> Salted:
        """The field and the salt of the next message. Raises TooFarAhead at a chain's end."""
        epoch = self.state.epoch
        state, payload, secret = self.state.send()
        chains = self.chains if secret is None else self.chains.added(secret)
        chains, counter, salt = chains.sent(epoch - 1)
        field = BraidMessage(epoch, counter, payload).to_bytes()
        return Salted(PostQuantumRatchet(state, chains), field, salt)

    def receive(
        self, field: bytes, most: int = SKIP_AHEAD
    ) -> tuple[PostQuantumRatchet, bytes | None]:
        """The ratchet after a received message, and that message's salt.

        Nothing of it is certain until the message has passed its MAC. Raises InvalidMessage,
        LegacyVersion, UnknownVersion, or TooFarAhead if it skips more than `most` messages.
        """
        epoch, counter, payload = BraidMessage.parse(field)
        state, secret = self.state.receive(epoch, payload)
        chains = self.chains if secret is None else self.chains.added(secret)
        if counter == 0 and epoch == 1 and not chains.began and chains.first == 0:
            return PostQuantumRatchet(state, chains), None
        chains, salt = chains.received(epoch - 1, counter, most)
        return PostQuantumRatchet(state, chains), salt

    def to_bytes(self) -> bytes:
        """The chains, then the Braid's state (see `storage`)."""
        return self.chains.to_bytes() + storage.to_bytes(self.state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError or struct.error for damaged bytes."""
        chains, at = Chains.read(data, 0)
        state = storage.from_bytes(data[at:])
        if not chains.can_send(state.epoch - 1):
            raise StoreError("A stored session is damaged.")
        return cls(state, chains)

    def __repr__(self) -> str:
        return f"PostQuantumRatchet({self.state}, {self.chains})"
